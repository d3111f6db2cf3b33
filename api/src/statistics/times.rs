//! How long requests took: counted in classes of two significant digits, so that any number of them takes little room and
//! can be added up over replicas and minutes.

use anyhow::Result;
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer, V2Serializer},
};
use std::{collections::BTreeMap, time::Duration};

/// Longest time that is told from longer ones, in microseconds.
const LONGEST: u64 = 60_000_000;

const DIGITS: u8 = 2;

/// Bits that make two significant digits.
const SIGNIFICANT: u32 = 8;

/// Times by class, in microseconds. Only classes that occur take room.
#[derive(Debug, Clone, Default)]
pub(crate) struct Times(BTreeMap<u64, u64>);

impl Times {
    pub(crate) fn add(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).clamp(1, LONGEST);
        *self.0.entry(class(micros)).or_default() += 1;
    }

    /// As they are stored: a histogram that [`merged`] reads.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut histogram = empty()?;
        for (micros, count) in &self.0 {
            histogram.record_n(*micros, *count)?;
        }
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(&histogram, &mut bytes)?;
        Ok(bytes)
    }
}

/// The smallest time that is not told from this one.
const fn class(micros: u64) -> u64 {
    let insignificant = (u64::BITS - micros.leading_zeros()).saturating_sub(SIGNIFICANT);
    micros >> insignificant << insignificant
}

fn empty() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LONGEST, DIGITS)?)
}

/// All of these together, in microseconds.
///
/// # Errors
/// If one of them is no histogram.
pub(crate) fn merged<'a>(stored: impl IntoIterator<Item = &'a [u8]>) -> Result<Histogram<u64>> {
    let (mut all, mut deserializer) = (empty()?, Deserializer::new());
    for bytes in stored {
        all.add(deserializer.deserialize::<u64, _>(&mut &*bytes)?)?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;

    #[test]
    fn times_of_several_replicas_add_up_to_the_percentiles_of_all() {
        let (mut one, mut other, mut all) = (Times::default(), Times::default(), Vec::new());
        for n in 1..=1_000_u64 {
            let micros = n * n;
            all.push(micros);
            if n % 3 == 0 { &mut one } else { &mut other }.add(Duration::from_micros(micros));
        }
        let stored = [one.to_bytes().unwrap(), other.to_bytes().unwrap()];
        let merged = merged(stored.iter().map(Vec::as_slice)).unwrap();
        assert_eq!(merged.len(), 1_000);
        for quantile in [0.5, 0.95, 0.99] {
            let exact = all[(all.len() as f64 * quantile) as usize - 1] as f64;
            let found = merged.value_at_quantile(quantile) as f64;
            assert!((found - exact).abs() / exact < 0.02, "{quantile}: {found} for {exact}");
        }
    }

    #[test]
    fn classes_are_those_of_the_histogram() {
        let histogram = empty().unwrap();
        for micros in [1, 9, 127, 128, 255, 256, 257, 511, 512, 999, 12_345, 1_000_001, 59_999_999, LONGEST] {
            assert_eq!(class(micros), histogram.lowest_equivalent(micros), "{micros}");
        }
    }

    #[test]
    fn the_longest_and_the_shortest_are_counted_too() {
        let mut times = Times::default();
        times.add(Duration::ZERO);
        times.add(Duration::from_secs(3_600));
        let merged = merged([times.to_bytes().unwrap().as_slice()]).unwrap();
        assert_eq!(merged.len(), 2);
        assert!(merged.max() >= LONGEST);
    }

    #[test]
    fn what_is_no_histogram_is_an_error() {
        assert!(merged([&b"nonsense"[..]]).is_err());
        assert_eq!(merged([]).unwrap().len(), 0);
    }
}
