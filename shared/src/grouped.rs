//! Looking many things up in one query. What is asked for while a query is under way goes into the next one together: a lone
//! look-up is made at once, and the more there are, the less each of them costs. Nothing is remembered between queries.

use std::{collections::HashMap, future::Future, hash::Hash, sync::Arc};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

/// Why a look-up failed; shared by all that were in the same query.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct GroupedError(Arc<anyhow::Error>);

type Answer<V> = oneshot::Sender<Result<Option<V>, GroupedError>>;

/// The way to whoever looks things up; cheap to clone.
#[derive(Debug)]
pub struct Grouped<K, V>(mpsc::Sender<(K, Answer<V>)>);

impl<K, V> Clone for Grouped<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V> Grouped<K, V>
where
    K: Eq + Hash + Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    /// Looks up with `load`, at most `most` keys a query and `flights` queries at a time. The future does the work: it is to
    /// be spawned, and ends when the last handle is gone.
    pub fn new<L, F>(flights: usize, most: usize, load: L) -> (Self, impl Future<Output = ()> + Send + 'static)
    where
        L: Fn(Vec<K>) -> F + Send + 'static,
        F: Future<Output = anyhow::Result<HashMap<K, V>>> + Send + 'static,
    {
        let (ask, asked) = mpsc::channel(most);
        (Self(ask), serve(asked, flights, most, load))
    }

    /// Looks one thing up; `None` if there is no such thing.
    ///
    /// # Errors
    /// Those of the query it was part of.
    pub async fn find(&self, key: K) -> Result<Option<V>, GroupedError> {
        let gone = || GroupedError(Arc::new(anyhow::anyhow!("nobody looks things up any more")));
        let (answer, answered) = oneshot::channel();
        self.0.send((key, answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

async fn serve<K, V, L, F>(mut asked: mpsc::Receiver<(K, Answer<V>)>, flights: usize, most: usize, load: L)
where
    K: Eq + Hash + Clone + Send + 'static,
    V: Clone + Send + 'static,
    L: Fn(Vec<K>) -> F,
    F: Future<Output = anyhow::Result<HashMap<K, V>>> + Send + 'static,
{
    let (mut under_way, mut batch) = (JoinSet::new(), Vec::new());
    loop {
        tokio::select! {
            biased;
            received = asked.recv_many(&mut batch, most), if under_way.len() < flights => {
                if received == 0 {
                    break;
                }
                let (keys, answers): (Vec<K>, Vec<Answer<V>>) = batch.drain(..).unzip();
                let found = load(distinct(&keys));
                under_way.spawn(async move { tell(keys, answers, found.await) });
            }
            Some(_) = under_way.join_next(), if !under_way.is_empty() => {}
        }
    }
    while under_way.join_next().await.is_some() {}
}

fn distinct<K: Eq + Hash + Clone>(keys: &[K]) -> Vec<K> {
    let mut seen = std::collections::HashSet::new();
    keys.iter().filter(|key| seen.insert(*key)).cloned().collect()
}

fn tell<K: Eq + Hash, V: Clone>(keys: Vec<K>, answers: Vec<Answer<V>>, found: anyhow::Result<HashMap<K, V>>) {
    let found = found.map_err(|error| GroupedError(Arc::new(error)));
    for (key, answer) in keys.into_iter().zip(answers) {
        // whoever asked may be gone
        let _ = answer.send(match &found {
            Ok(found) => Ok(found.get(&key).cloned()),
            Err(error) => Err(error.clone()),
        });
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn what_comes_in_meanwhile_shares_a_query() {
        let queries = Arc::new(AtomicUsize::new(0));
        let counted = queries.clone();
        let (squares, work) = Grouped::new(1, 100, move |keys: Vec<u32>| {
            counted.fetch_add(1, Ordering::Relaxed);
            async move {
                tokio::task::yield_now().await;
                Ok(keys.into_iter().filter(|key| *key != 13).map(|key| (key, key * key)).collect())
            }
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(work);
        let asked: Vec<_> = (0..50).map(|key| squares.find(key % 20)).collect();
        for (key, found) in futures_util::future::join_all(asked).await.into_iter().enumerate() {
            let key = u32::try_from(key).unwrap() % 20;
            assert_eq!(found.unwrap(), (key != 13).then_some(key * key));
        }
        assert!(queries.load(Ordering::Relaxed) <= 2, "{queries:?}");
    }

    #[tokio::test]
    async fn all_of_a_query_that_failed_hear_why() {
        let (broken, work) =
            Grouped::new(2, 10, |_: Vec<u8>| async { Err::<HashMap<u8, u8>, _>(anyhow::anyhow!("away")) });
        let mut tasks = JoinSet::new();
        tasks.spawn(work);
        assert_eq!(broken.find(1).await.unwrap_err().to_string(), "away");
    }
}
