//! The query string of a list as the client sent it, and its description for the documentation.

use actix_web::{FromRequest, HttpRequest, dev::Payload};
use std::{
    convert::Infallible,
    future::{Ready, ready},
};
use utoipa::IntoParams;

/// The query parameters of a list, in the order they were sent; a list's spec says what they mean.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListParams(Vec<(String, String)>);

impl ListParams {
    /// Parses a query string.
    pub(crate) fn parse(query: &str) -> Self {
        Self(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// The last value of a parameter that is not empty.
    pub(crate) fn get<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).last()
    }

    /// Every value of a parameter that is not empty.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// The names of parameters whose values PostgreSQL's text cannot hold.
    pub(crate) fn unstorable(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, value)| value.contains('\0')).map(|(name, _)| name.as_str())
    }
}

impl FromRequest for ListParams {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self::parse(request.query_string())))
    }
}

/// What every list takes; for the documentation of handlers: `params(ListQuery)`.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes the parameters; ListParams reads them")]
pub(crate) struct ListQuery {
    /// Number of the page, from 1.
    #[param(minimum = 1, default = 1)]
    page: Option<i64>,
    /// Elements on a page.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<i64>,
    /// Another name of `limit`.
    #[param(minimum = 1, maximum = 100)]
    page_size: Option<i64>,
    /// Elements to pass over; wins over `page`.
    #[param(minimum = 0)]
    offset: Option<i64>,
    /// A `next_cursor` or `prev_cursor`; wins over `offset` and `page`.
    cursor: Option<String>,
    /// Fields separated by commas, `-` before a field for descending; or `asc`, `desc` by time of creation.
    #[param(default = "-created_at")]
    sort: Option<String>,
    /// One field to sort by; `sort` wins.
    sort_by: Option<String>,
    /// `asc` or `desc`, with `sort_by`.
    sort_order: Option<String>,
    /// Words that must all occur.
    search: Option<String>,
    /// Date or time, inclusive.
    created_after: Option<String>,
    /// Date or time, inclusive; a date includes that whole day.
    created_before: Option<String>,
}
