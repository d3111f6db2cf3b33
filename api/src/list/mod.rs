//! Lists: every one takes the same parameters and answers in the same form.
//!
//! A list is a [`ListSpec`]: from where, what may be filtered, searched and sorted, in SQL's own words. [`fetch`] runs
//! it in two queries, one that counts and one that reads the page. Only the words of the spec are ever part of the SQL
//! text; whatever a client sent is bound.

mod cursor;
mod few;
mod params;
mod query;
mod request;
#[cfg(test)]
mod tests;

pub(crate) use few::of_few;
pub(crate) use params::{ListParams, ListQuery};
pub(crate) use request::time;

use crate::error::ApiError;
use diesel::pg::Pg;
use diesel_async::AsyncPgConnection;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// What a list is made of. All SQL in it is constant.
#[derive(Debug)]
pub(crate) struct ListSpec {
    /// The `FROM` clause without the word: `products p`, joins included.
    pub(crate) from: &'static str,
    /// What is selected, for the row type to read by name: `p.*`.
    pub(crate) columns: &'static str,
    /// A condition that always holds; `None` for none.
    pub(crate) condition: Option<&'static str>,
    /// The unique column that breaks ties, a UUID: `p.id`.
    pub(crate) id: &'static str,
    /// Elements on a page if the client does not say.
    pub(crate) default_limit: i64,
    /// Query parameters that choose elements.
    pub(crate) filters: &'static [Filter],
    /// What `search` looks at: `p.title`. Empty: the list has no search.
    pub(crate) searched: &'static [&'static str],
    /// What can be sorted by. One named `created_at` must be there: it is the default, newest first, and what
    /// `created_after` and `created_before` look at.
    pub(crate) sortable: &'static [Sortable],
}

/// A query parameter that chooses elements by one or several values.
#[derive(Debug)]
pub(crate) struct Filter {
    /// The parameter.
    pub(crate) name: &'static str,
    /// What it is compared with: `p.status`.
    pub(crate) sql: &'static str,
    /// The values it takes.
    pub(crate) values: Values,
}

/// The values that a filter takes.
#[derive(Debug)]
pub(crate) enum Values {
    /// Any text.
    Text,
    /// Ids.
    Ids,
    /// `true`, `false`.
    Bools,
    /// A date or a time, from which on elements are chosen.
    Since,
    /// A date or a time, up to which elements are chosen; a date includes that whole day.
    Until,
    /// One of these: the word that clients use, and the word that is stored.
    Words(&'static [(&'static str, &'static str)]),
}

/// Something to sort by.
#[derive(Debug)]
pub(crate) struct Sortable {
    /// As clients call it.
    pub(crate) name: &'static str,
    /// The expression: `p.created_at`.
    pub(crate) sql: &'static str,
    /// Its type in SQL.
    pub(crate) kind: SortKind,
    /// Whether it can be NULL; elements without a value come last in either direction.
    pub(crate) nullable: bool,
}

/// The SQL type of something to sort by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SortKind {
    /// `timestamptz`.
    Time,
    /// `text`.
    Text,
    /// `bigint` and what casts to it.
    Integer,
    /// `double precision` and what casts to it.
    Float,
}

impl Sortable {
    /// A column that always has a value.
    pub(crate) const fn new(name: &'static str, sql: &'static str, kind: SortKind) -> Self {
        Self { name, sql, kind, nullable: false }
    }

    /// A column that may be NULL.
    pub(crate) const fn nullable(name: &'static str, sql: &'static str, kind: SortKind) -> Self {
        Self { name, sql, kind, nullable: true }
    }
}

/// A page of a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    /// The elements.
    pub(crate) data: Vec<T>,
    /// Where in the list they are.
    pub(crate) pagination: Pagination,
}

impl<T> Page<T> {
    /// The same page with other elements: views made of its rows.
    pub(crate) fn with<U>(self, make: impl FnOnce(Vec<T>) -> Vec<U>) -> Page<U> {
        Page { data: make(self.data), pagination: self.pagination }
    }
}

/// Where in a list a page is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Pagination {
    /// Elements in the whole list.
    pub(crate) total: i64,
    /// Most elements on a page.
    pub(crate) limit: i64,
    /// Elements before this page.
    pub(crate) offset: i64,
    /// Number of this page, from 1.
    pub(crate) page: i64,
    /// Pages in the whole list.
    pub(crate) pages: i64,
    /// More elements follow.
    pub(crate) has_next: bool,
    /// Elements come before.
    pub(crate) has_prev: bool,
    /// Send it as `cursor` for the next page.
    pub(crate) next_cursor: Option<String>,
    /// Send it as `cursor` for the page before.
    pub(crate) prev_cursor: Option<String>,
}

/// Reads one page. `owner` restricts the list to what the caller may see: `&[("p.user_id", caller.user_id)]`. Each is
/// SQL that is compared with an id, in brackets of its own, so that it may also be `("t.is_public OR
/// t.organization_id", caller.organization_id)`.
///
/// # Errors
/// 400 with every parameter that is not right; and whatever the database says.
pub(crate) async fn fetch<T>(
    conn: &mut AsyncPgConnection,
    spec: &'static ListSpec,
    params: &ListParams,
    owner: &[(&'static str, Uuid)],
) -> Result<Page<T>, ApiError>
where
    T: diesel::deserialize::QueryableByName<Pg> + Send + 'static,
{
    let request = request::ListRequest::read(spec, params)?;
    query::run(conn, spec, &request, owner).await
}
