//! `atelier admin organization set-limits`: figures in place of those of the tier, and budgets for language models.

use std::str::FromStr;

use anyhow::ensure;
use shared::models::{CustomFigure, CustomLimits};

/// The most a limit on the pace of requests can be.
const MOST_PACE: i64 = 1_000_000;

const NANOS: f64 = 1e9;

/// Give an organization other figures than its tier's, and budgets for language models
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
A figure is a number, `unlimited`, or `tier` for that of the tier again. What is not named stays. It counts from
the next request on.

Examples:
  atelier admin organization set-limits acme --daily 5000 --requests-per-minute 300
  atelier admin organization set-limits acme --api-quota-limit unlimited --weekly tier
  atelier admin organization set-limits acme --monthly-cost-budget 250 --monthly-token-budget 20000000
  atelier admin organization set-limits acme --monthly-cost-budget none
  atelier admin organization set-limits acme --reset       everything as the tier has it, no budgets")]
pub(super) struct SetLimits {
    /// Slug or id
    pub(super) organization: String,

    /// Metered requests a minute, of one user
    #[arg(long, value_name = "FIGURE")]
    requests_per_minute: Option<Figure>,

    /// Metered requests an hour, of all members together
    #[arg(long, value_name = "FIGURE")]
    requests_per_hour: Option<Figure>,

    /// Metered requests a day, of one user
    #[arg(long, value_name = "FIGURE")]
    daily: Option<Figure>,

    /// Metered requests a week, of one user
    #[arg(long, value_name = "FIGURE")]
    weekly: Option<Figure>,

    /// Metered requests a month, of one user
    #[arg(long, value_name = "FIGURE")]
    monthly: Option<Figure>,

    /// Metered requests a month, of all members together
    #[arg(long, value_name = "FIGURE")]
    api_quota_limit: Option<Figure>,

    /// Tokens of language models a month, or `none`
    #[arg(long, value_name = "TOKENS")]
    monthly_token_budget: Option<Budget<i64>>,

    /// US dollars for language models a month, or `none`
    #[arg(long, value_name = "DOLLARS")]
    monthly_cost_budget: Option<Budget<f64>>,

    /// Forget all custom figures and budgets, before the others are set
    #[arg(long)]
    reset: bool,
}

/// A figure as it is written on the command line.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Figure(CustomFigure);

/// A budget as it is written on the command line; none is no limit.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Budget<T>(Option<T>);

impl FromStr for Figure {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "unlimited" => Ok(Self(CustomFigure::Unlimited)),
            "tier" => Ok(Self(CustomFigure::OfTier)),
            number => match number.parse() {
                Ok(most) if most >= 0 => Ok(Self(CustomFigure::Most(most))),
                _ => Err("write a number from 0, `unlimited` or `tier`".to_owned()),
            },
        }
    }
}

impl FromStr for Budget<i64> {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word.parse::<i64>() {
            _ if word == "none" => Ok(Self(None)),
            Ok(tokens) if tokens >= 0 => Ok(Self(Some(tokens))),
            _ => Err("write a number of tokens from 0, or `none`".to_owned()),
        }
    }
}

impl FromStr for Budget<f64> {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word.parse::<f64>() {
            _ if word == "none" => Ok(Self(None)),
            Ok(dollars) if (0.0..=1e9).contains(&dollars) => Ok(Self(Some(dollars))),
            _ => Err("write an amount of US dollars, 12.50 for example, or `none`".to_owned()),
        }
    }
}

impl SetLimits {
    /// What it changes.
    ///
    /// # Errors
    /// When it changes nothing, or a figure cannot be.
    pub(super) fn change(&self) -> anyhow::Result<CustomLimits> {
        let named = [
            ("requests_per_minute", self.requests_per_minute),
            ("requests_per_hour", self.requests_per_hour),
            ("daily", self.daily),
            ("weekly", self.weekly),
            ("monthly", self.monthly),
            ("api_quota_limit", self.api_quota_limit),
        ];
        for (name, figure) in &named[..2] {
            let fits = match figure {
                Some(Figure(CustomFigure::Most(most))) => (1..=MOST_PACE).contains(most),
                Some(Figure(CustomFigure::Unlimited | CustomFigure::OfTier)) | None => true,
            };
            let option = name.replace('_', "-");
            ensure!(fits, "--{option} is a number from 1 to {MOST_PACE}, `unlimited` or `tier`");
        }
        let figures: Vec<_> = named.into_iter().filter_map(|(name, figure)| Some((name, figure?.0))).collect();
        #[expect(clippy::cast_possible_truncation, reason = "a budget is at most 10^18 nano-dollars")]
        let nanos = |dollars: f64| (dollars * NANOS).round() as i64;
        let change = CustomLimits {
            reset: self.reset,
            token_budget: self.monthly_token_budget.map(|Budget(tokens)| tokens),
            cost_budget_nanos: self.monthly_cost_budget.map(|Budget(dollars)| dollars.map(nanos)),
            figures,
        };
        let nothing = change.figures.is_empty() && change.token_budget.is_none() && change.cost_budget_nanos.is_none();
        ensure!(change.reset || !nothing, "nothing is named to be changed; `--help` lists the figures there are");
        Ok(change)
    }
}

/// Nano-dollars as dollars.
#[expect(clippy::cast_precision_loss, reason = "shown to people; 2^53 nano-dollars are nine million dollars")]
pub(super) fn dollars(nanos: i64) -> f64 {
    nanos as f64 / NANOS
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

    use super::*;

    #[test]
    fn figures_and_budgets_are_read_or_refused_with_what_is_allowed() {
        assert_eq!("0".parse(), Ok(Figure(CustomFigure::Most(0))));
        assert_eq!("unlimited".parse(), Ok(Figure(CustomFigure::Unlimited)));
        assert_eq!("tier".parse(), Ok(Figure(CustomFigure::OfTier)));
        for wrong in ["", "-1", "1.5", "many", "99999999999999999999"] {
            assert!(wrong.parse::<Figure>().unwrap_err().contains("unlimited"), "{wrong}");
        }
        assert_eq!("12.5".parse(), Ok(Budget(Some(12.5))));
        assert_eq!("none".parse::<Budget<f64>>(), Ok(Budget(None)));
        assert_eq!("none".parse::<Budget<i64>>(), Ok(Budget(None)));
        for wrong in ["-1", "NaN", "inf", "1e10", "much"] {
            assert!(wrong.parse::<Budget<f64>>().is_err(), "{wrong}");
            assert!(wrong.parse::<Budget<i64>>().is_err(), "{wrong}");
        }
    }
}
