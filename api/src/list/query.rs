//! The two queries behind a page: one counts, one reads.

use super::{
    ListSpec, Page, Pagination, SortKind,
    cursor::{self, Key},
    request::{ChosenValues, ListRequest, Order, Start},
};
use crate::error::ApiError;
use chrono::{DateTime, Utc};
use diesel::{
    deserialize::{self, QueryableByName},
    pg::Pg,
    query_builder::{BoxedSqlQuery, SqlQuery},
    row::NamedRow,
    sql_types::{Array, BigInt, Bool, Double, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// Names that no column of a list uses.
const KEYS: &str = "list_sort_keys";
const ID: &str = "list_tie_break";

/// A value to be bound.
#[derive(Debug, Clone)]
enum Value {
    Text(String),
    Texts(Vec<String>),
    Id(Uuid),
    Ids(Vec<Uuid>),
    Bools(Vec<bool>),
    Time(DateTime<Utc>),
    Integer(i64),
    Float(f64),
}

/// SQL text and the values it refers to, which are always added together.
#[derive(Debug, Default, Clone)]
struct Sql {
    text: String,
    values: Vec<Value>,
}

impl Sql {
    fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    fn bind(&mut self, value: Value) -> &mut Self {
        self.values.push(value);
        self.text.push_str(&format!("${}", self.values.len()));
        self
    }

    fn query(self) -> BoxedSqlQuery<'static, Pg, SqlQuery> {
        let query = diesel::sql_query(self.text).into_boxed::<Pg>();
        self.values.into_iter().fold(query, |query, value| match value {
            Value::Text(value) => query.bind::<Text, _>(value),
            Value::Texts(values) => query.bind::<Array<Text>, _>(values),
            Value::Id(value) => query.bind::<SqlUuid, _>(value),
            Value::Ids(values) => query.bind::<Array<SqlUuid>, _>(values),
            Value::Bools(values) => query.bind::<Array<Bool>, _>(values),
            Value::Time(value) => query.bind::<Timestamptz, _>(value),
            Value::Integer(value) => query.bind::<BigInt, _>(value),
            Value::Float(value) => query.bind::<Double, _>(value),
        })
    }
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    total: i64,
    #[diesel(sql_type = BigInt)]
    before: i64,
}

/// An element with the values it is sorted by.
struct Element<T> {
    row: T,
    keys: Vec<Option<String>>,
    id: Uuid,
}

impl<T: QueryableByName<Pg>> QueryableByName<Pg> for Element<T> {
    fn build<'a>(row: &impl NamedRow<'a, Pg>) -> deserialize::Result<Self> {
        Ok(Self {
            row: T::build(row)?,
            keys: NamedRow::get::<Array<Nullable<Text>>, _>(row, KEYS)?,
            id: NamedRow::get::<SqlUuid, _>(row, ID)?,
        })
    }
}

/// Runs a checked request.
pub(super) async fn run<T>(
    conn: &mut AsyncPgConnection,
    spec: &'static ListSpec,
    request: &ListRequest,
    owner: &[(&'static str, Uuid)],
) -> Result<Page<T>, ApiError>
where
    T: QueryableByName<Pg> + Send + 'static,
{
    let counted: Count = count(spec, request, owner).query().get_result(conn).await?;
    let mut elements: Vec<Element<T>> = page(spec, request, owner).query().load(conn).await?;
    // one more than asked for was read, to learn whether the list goes on
    let limit = request.limit;
    let more = elements.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    elements.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let length = i64::try_from(elements.len()).unwrap_or(i64::MAX);
    let backward = matches!(request.start, Start::Cursor { forward: false, .. });
    if backward {
        elements.reverse();
    }
    let offset = match request.start {
        Start::Offset(offset) => offset,
        Start::Cursor { forward: true, .. } => counted.before,
        Start::Cursor { forward: false, .. } => (counted.before - length).max(0),
    };
    let has_next = if backward { offset + length < counted.total } else { more };
    let has_prev = if backward { more } else { offset > 0 && counted.total > 0 };
    let edge = |element: Option<&Element<T>>, forward: bool, exists: bool| {
        element.filter(|_| exists).map(|e| cursor::encode(forward, &request.order, e.keys.clone(), e.id))
    };
    let pagination = Pagination {
        total: counted.total,
        limit,
        offset,
        page: offset / limit + 1,
        pages: (counted.total + limit - 1) / limit,
        has_next,
        has_prev,
        next_cursor: edge(elements.last(), true, has_next),
        prev_cursor: edge(elements.as_slice().first(), false, has_prev),
    };
    Ok(Page { data: elements.into_iter().map(|element| element.row).collect(), pagination })
}

/// Counts the list, and what comes before the page of a cursor.
fn count(spec: &ListSpec, request: &ListRequest, owner: &[(&'static str, Uuid)]) -> Sql {
    let mut sql = Sql::default();
    sql.push("SELECT count(*) AS total, ");
    match &request.start {
        Start::Offset(_) => {
            sql.push("0::bigint AS before");
        }
        Start::Cursor { forward, keys, id } => {
            sql.push("count(*) FILTER (WHERE ");
            // before the page of a forward cursor is its own element too
            if *forward {
                sql.push("NOT ");
            }
            beyond(&mut sql, spec, &request.order, keys, *id, *forward);
            sql.push(") AS before");
        }
    }
    sql.push(" FROM ").push(spec.from);
    conditions(&mut sql, spec, request, owner);
    sql
}

/// Reads one element more than the page has.
fn page(spec: &ListSpec, request: &ListRequest, owner: &[(&'static str, Uuid)]) -> Sql {
    let mut sql = Sql::default();
    let keys: Vec<_> = request.order.iter().map(|part| text_of(part.by.kind, part.by.sql)).collect();
    sql.push(&format!("SELECT {}, ARRAY[{}] AS {KEYS}, {} AS {ID} FROM ", spec.columns, keys.join(", "), spec.id));
    sql.push(spec.from);
    conditions(&mut sql, spec, request, owner);
    let mut backward = false;
    if let Start::Cursor { forward, keys, id } = &request.start {
        backward = !forward;
        sql.push(" AND ");
        beyond(&mut sql, spec, &request.order, keys, *id, *forward);
    }
    sql.push(" ORDER BY ");
    for part in &request.order {
        sql.push(part.by.sql).push(if part.descending == backward { " ASC" } else { " DESC" });
        // without a value last; not said where it cannot happen, so that an index fits
        if part.by.nullable {
            sql.push(if backward { " NULLS FIRST" } else { " NULLS LAST" });
        }
        sql.push(", ");
    }
    sql.push(spec.id).push(if descending_ties(&request.order) == backward { " ASC" } else { " DESC" });
    sql.push(" LIMIT ").bind(Value::Integer(request.limit + 1));
    if let Start::Offset(offset) = request.start {
        sql.push(" OFFSET ").bind(Value::Integer(offset));
    }
    sql
}

/// What restricts the list itself; the cursor is no part of it.
fn conditions(sql: &mut Sql, spec: &ListSpec, request: &ListRequest, owner: &[(&'static str, Uuid)]) {
    sql.push(" WHERE ").push(spec.condition.unwrap_or("TRUE"));
    for (column, id) in owner {
        sql.push(" AND (").push(column).push(" = ").bind(Value::Id(*id)).push(")");
    }
    for filter in &request.filters {
        sql.push(" AND ").push(filter.sql);
        match &filter.values {
            ChosenValues::Texts(values) => sql.push(" = ANY(").bind(Value::Texts(values.clone())).push(")"),
            ChosenValues::Ids(values) => sql.push(" = ANY(").bind(Value::Ids(values.clone())).push(")"),
            ChosenValues::Bools(values) => sql.push(" = ANY(").bind(Value::Bools(values.clone())).push(")"),
            ChosenValues::Since(at) => sql.push(" >= ").bind(Value::Time(*at)),
            ChosenValues::Before(at) => sql.push(" < ").bind(Value::Time(*at)),
        };
    }
    for word in &request.words {
        let pattern = Value::Text(format!("%{}%", escape_like(word)));
        sql.push(" AND (");
        for (index, field) in spec.searched.iter().enumerate() {
            sql.push(if index == 0 { "" } else { " OR " }).push(field).push(" ILIKE ").bind(pattern.clone());
        }
        sql.push(")");
    }
    let created_at = spec.sortable.iter().find(|sortable| sortable.name == "created_at").map(|sortable| sortable.sql);
    if let Some(created_at) = created_at {
        if let Some(at) = request.created_after {
            sql.push(" AND ").push(created_at).push(" >= ").bind(Value::Time(at));
        }
        if let Some(at) = request.created_until {
            sql.push(" AND ").push(created_at).push(" < ").bind(Value::Time(at));
        }
    }
}

/// Takes the special meaning from what LIKE gives one to.
fn escape_like(word: &str) -> String {
    word.chars().fold(String::new(), |mut escaped, c| {
        if matches!(c, '%' | '_' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
        escaped
    })
}

/// Ties are broken in the direction of the last field, so that one index serves both.
fn descending_ties(order: &[Order]) -> bool {
    order.last().is_some_and(|part| part.descending)
}

/// "After this element" (or, not `forward`, "before it") in the order of the list.
fn beyond(sql: &mut Sql, spec: &ListSpec, order: &[Order], keys: &[Key], id: Uuid, forward: bool) {
    let ties = descending_ties(order);
    let smaller = |descending: bool| descending == forward;
    if order.iter().all(|part| !part.by.nullable && part.descending == ties) {
        // one row comparison, which an index over the order answers directly
        sql.push("(");
        for part in order {
            sql.push(part.by.sql).push(", ");
        }
        sql.push(spec.id).push(if smaller(ties) { ") < (" } else { ") > (" });
        for key in keys {
            bind_key(sql, key);
            sql.push(", ");
        }
        sql.bind(Value::Id(id)).push(")");
        return;
    }
    // equal in the first n fields and beyond in the next, for every n
    sql.push("(");
    for (n, (part, key)) in order.iter().zip(keys).enumerate() {
        equal_so_far(sql, order, keys, n);
        match (key.is_null(), forward) {
            // elements without a value are last
            (true, true) => sql.push("FALSE"),
            (true, false) => sql.push(part.by.sql).push(" IS NOT NULL"),
            (false, _) => {
                sql.push("(").push(part.by.sql).push(if smaller(part.descending) { " < " } else { " > " });
                bind_key(sql, key);
                if part.by.nullable && forward {
                    sql.push(" OR ").push(part.by.sql).push(" IS NULL");
                }
                sql.push(")")
            }
        };
        sql.push(") OR ");
    }
    equal_so_far(sql, order, keys, order.len());
    sql.push(spec.id).push(if smaller(ties) { " < " } else { " > " }).bind(Value::Id(id)).push("))");
}

fn equal_so_far(sql: &mut Sql, order: &[Order], keys: &[Key], n: usize) {
    sql.push("(");
    for (part, key) in order.iter().zip(keys).take(n) {
        sql.push(part.by.sql);
        if key.is_null() {
            sql.push(" IS NULL");
        } else {
            sql.push(" = ");
            bind_key(sql, key);
        }
        sql.push(" AND ");
    }
}

fn bind_key(sql: &mut Sql, key: &Key) {
    match key.clone() {
        Key::Time(Some(at)) => sql.bind(Value::Time(at)),
        Key::Text(Some(text)) => sql.bind(Value::Text(text)),
        Key::Integer(Some(number)) => sql.bind(Value::Integer(number)),
        Key::Float(Some(number)) => sql.bind(Value::Float(number)),
        Key::Time(None) | Key::Text(None) | Key::Integer(None) | Key::Float(None) => sql.push("NULL"),
    };
}

/// A sort value as text that [`SortKind::key`] reads back without loss.
fn text_of(kind: SortKind, sql: &str) -> String {
    match kind {
        SortKind::Time => format!(r#"to_char({sql} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#),
        SortKind::Text | SortKind::Integer | SortKind::Float => format!("({sql})::text"),
    }
}
