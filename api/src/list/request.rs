//! What a client asks of a list, checked against the list's spec.

use super::{
    ListParams, ListSpec, SortKind, Sortable, Values,
    cursor::{Cursor, Key},
};
use crate::error::{ApiError, Detail};
use chrono::{DateTime, Days, NaiveDate, NaiveDateTime, Utc};
use std::num::IntErrorKind;
use uuid::Uuid;

/// Most elements on a page.
const MAX_LIMIT: i64 = 100;

/// Most words in a search: each is a scan of every searched field.
const MAX_WORDS: usize = 10;

/// A checked request for one page.
#[derive(Debug)]
pub(super) struct ListRequest {
    pub(super) limit: i64,
    pub(super) start: Start,
    pub(super) order: Vec<Order>,
    pub(super) filters: Vec<Chosen>,
    pub(super) words: Vec<String>,
    pub(super) created_after: Option<DateTime<Utc>>,
    /// Exclusive.
    pub(super) created_until: Option<DateTime<Utc>>,
}

/// Where the page begins.
#[derive(Debug)]
pub(super) enum Start {
    Offset(i64),
    Cursor { forward: bool, keys: Vec<Key>, id: Uuid },
}

/// One part of the order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    pub(super) by: &'static Sortable,
    pub(super) descending: bool,
}

/// A filter that was asked for.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) sql: &'static str,
    pub(super) values: ChosenValues,
}

#[derive(Debug)]
pub(super) enum ChosenValues {
    Texts(Vec<String>),
    Ids(Vec<Uuid>),
    Bools(Vec<bool>),
    Since(DateTime<Utc>),
    /// Exclusive.
    Before(DateTime<Utc>),
}

impl ListRequest {
    pub(super) fn read(spec: &'static ListSpec, params: &ListParams) -> Result<Self, ApiError> {
        let mut problems: Vec<_> =
            params.unstorable().map(|name| Detail::new(name, "must not contain the character U+0000")).collect();
        let limit_name = if params.get("limit").is_some() { "limit" } else { "page_size" };
        let limit = integer(params, limit_name, 1, MAX_LIMIT, &mut problems).unwrap_or(spec.default_limit);
        let page = integer(params, "page", 1, i64::MAX / MAX_LIMIT, &mut problems).unwrap_or(1);
        let offset = integer(params, "offset", 0, i64::MAX / 2, &mut problems).unwrap_or((page - 1) * limit);
        let order = order(spec, params, &mut problems);
        let start = match params.get("cursor").map(|text| Cursor::decode(text, &order)) {
            None => Start::Offset(offset),
            Some(Some(cursor)) => Start::Cursor { forward: cursor.forward, keys: cursor.keys, id: cursor.id },
            Some(None) => {
                problems.push(Detail::new(
                    "cursor",
                    "cannot be read; send next_cursor or prev_cursor unchanged, with the same sort",
                ));
                Start::Offset(0)
            }
        };
        let words: Vec<_> = if spec.searched.is_empty() {
            Vec::new()
        } else {
            params.all("search").flat_map(str::split_whitespace).map(ToOwned::to_owned).collect()
        };
        if words.len() > MAX_WORDS {
            problems.push(Detail::new("search", format!("must have at most {MAX_WORDS} words")));
        }
        let filters = spec
            .filters
            .iter()
            .filter_map(|filter| {
                let sent: Vec<_> = params
                    .all(filter.name)
                    .flat_map(|list| list.split(','))
                    .map(str::trim)
                    .filter(|v| !v.is_empty())
                    .collect();
                let values = choose(filter.name, &filter.values, &sent, params, &mut problems)?;
                (!sent.is_empty()).then_some(Chosen { sql: filter.sql, values })
            })
            .collect();
        let created_after = time(params, "created_after", false, &mut problems);
        let created_until = time(params, "created_before", true, &mut problems);
        if !problems.is_empty() {
            return Err(ApiError::invalid(problems));
        }
        Ok(Self { limit, start, order, filters, words, created_after, created_until })
    }
}

fn integer(params: &ListParams, name: &str, least: i64, most: i64, problems: &mut Vec<Detail>) -> Option<i64> {
    let text = params.get(name)?;
    match text.parse::<i64>() {
        Ok(number) if (least..=most).contains(&number) => Some(number),
        // a place that no list reaches is past the end of all of them
        Ok(number) if number > most && most > MAX_LIMIT => Some(most),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow && most > MAX_LIMIT => Some(most),
        Ok(_) | Err(_) => {
            let range =
                if most > MAX_LIMIT { format!("at least {least}") } else { format!("between {least} and {most}") };
            problems.push(Detail::new(name, format!("must be a whole number, {range}")));
            None
        }
    }
}

/// The order asked for, without the tie-break.
fn order(spec: &'static ListSpec, params: &ListParams, problems: &mut Vec<Detail>) -> Vec<Order> {
    let mut order: Vec<Order> = Vec::new();
    let mut add = |name: &str, descending: bool, parameter: &str| {
        let Some(by) = spec.sortable.iter().find(|sortable| sortable.name == name) else {
            let known: Vec<_> = spec.sortable.iter().map(|sortable| sortable.name).collect();
            problems.push(Detail::new(parameter, format!("{name:?} is none of: {}", known.join(", "))));
            return;
        };
        if !order.iter().any(|part| part.by.name == name) {
            order.push(Order { by, descending });
        }
    };
    let direction = |word: &str| match word {
        "asc" => Some(false),
        "desc" => Some(true),
        _ => None,
    };
    if let Some(sort) = params.get("sort") {
        match direction(sort.trim()) {
            Some(descending) => add("created_at", descending, "sort"),
            None => {
                for field in sort.split(',') {
                    // a + that was not escaped arrives as a space
                    match field.trim().strip_prefix('-') {
                        Some(name) => add(name.trim(), true, "sort"),
                        None => add(field.trim_start_matches([' ', '+']).trim(), false, "sort"),
                    }
                }
            }
        }
    } else if params.get("sort_by").is_some() || params.get("sort_order").is_some() {
        let sent = params.get("sort_order");
        let descending = sent.map_or(Some(false), |word| direction(&word.to_ascii_lowercase()));
        add(params.get("sort_by").unwrap_or("created_at"), descending.unwrap_or(false), "sort_by");
        if descending.is_none() {
            problems.push(Detail::new("sort_order", "must be asc or desc"));
        }
    } else {
        add("created_at", true, "sort");
    }
    order
}

fn choose(
    name: &str,
    values: &Values,
    sent: &[&str],
    params: &ListParams,
    problems: &mut Vec<Detail>,
) -> Option<ChosenValues> {
    Some(match values {
        Values::Text => ChosenValues::Texts(sent.iter().map(|&value| value.to_owned()).collect()),
        Values::Words(words) => ChosenValues::Texts(
            sent.iter()
                .filter_map(|value| match words.iter().find(|(word, _)| word == value) {
                    Some((_, stored)) => Some((*stored).to_owned()),
                    None => {
                        let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                        problems.push(Detail::new(name, format!("{value:?} is none of: {}", known.join(", "))));
                        None
                    }
                })
                .collect(),
        ),
        Values::Ids => ChosenValues::Ids(each(name, sent, "must be a UUID", problems)),
        Values::Bools => ChosenValues::Bools(each(name, sent, "must be true or false", problems)),
        Values::Since => ChosenValues::Since(time(params, name, false, problems)?),
        Values::Until => ChosenValues::Before(time(params, name, true, problems)?),
    })
}

fn each<T: std::str::FromStr>(name: &str, sent: &[&str], message: &str, problems: &mut Vec<Detail>) -> Vec<T> {
    let mut parsed = Vec::with_capacity(sent.len());
    for value in sent {
        match value.parse() {
            Ok(value) => parsed.push(value),
            Err(_) => problems.push(Detail::new(name, message)),
        }
    }
    parsed
}

/// A parameter that is a date or a time. As an end (`created_before`) it is made exclusive: the moment or the day after.
pub(crate) fn time(params: &ListParams, name: &str, end: bool, problems: &mut Vec<Detail>) -> Option<DateTime<Utc>> {
    let text = params.get(name)?;
    let read = match text.parse::<NaiveDate>() {
        // a sign would begin a year before or after all that PostgreSQL can hold
        Ok(day) if text.len() == 10 && text.starts_with(|first: char| first.is_ascii_digit()) => {
            let day = if end { day.checked_add_days(Days::new(1)) } else { Some(day) };
            day.and_then(|day| day.and_hms_opt(0, 0, 0)).map(|at| at.and_utc())
        }
        _ => moment(text).map(|at| if end { at + chrono::Duration::microseconds(1) } else { at }),
    };
    if read.is_none() {
        problems.push(Detail::new(name, "must be a date (2025-01-31) or a time (2025-01-31T10:30:00Z)"));
    }
    read
}

fn moment(text: &str) -> Option<DateTime<Utc>> {
    // a + that was not escaped arrives as a space
    let offset = text.get(11..).and_then(|rest| rest.find(' ')).map(|at| at + 11);
    let text = offset.map_or_else(|| text.to_owned(), |at| format!("{}+{}", &text[..at], &text[at + 1..]));
    match DateTime::parse_from_rfc3339(&text) {
        Ok(at) => Some(at.to_utc()),
        // without a zone it is UTC; four digits of year, so that PostgreSQL can hold it
        Err(_) => NaiveDateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S%.f")
            .ok()
            .filter(|_| text.as_bytes().first().is_some_and(u8::is_ascii_digit) && text.find('-') == Some(4))
            .map(|at| at.and_utc()),
    }
}

impl SortKind {
    /// Parses the text of a cursor.
    pub(super) fn key(self, text: Option<String>) -> Option<Key> {
        Some(match self {
            Self::Text => Key::Text(text),
            Self::Time => Key::Time(match text {
                None => None,
                Some(text) => Some(DateTime::parse_from_rfc3339(&text).ok()?.to_utc()),
            }),
            Self::Integer => Key::Integer(match text {
                None => None,
                Some(text) => Some(text.parse().ok()?),
            }),
            Self::Float => Key::Float(match text {
                None => None,
                Some(text) => Some(text.parse().ok().filter(|number: &f64| !number.is_nan())?),
            }),
        })
    }
}
