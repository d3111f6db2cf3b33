//! The migrations, and Diesel's picture of what they make.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use diesel::{QueryableByName, sql_types::Text};
use diesel_async::{AsyncMigrationHarness, RunQueryDsl};
use diesel_migrations::MigrationHarness;
use harness::World;
use shared::db::{self, MIGRATIONS};
use std::collections::BTreeMap;

/// `table.column` → type, with `?` where it may be null.
type Columns = BTreeMap<String, String>;

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

async fn lines(url: &str, query: &str) -> Vec<String> {
    let mut conn = db::connect(url).await.unwrap();
    let lines: Vec<Line> = diesel::sql_query(query).load(&mut conn).await.unwrap();
    lines.into_iter().map(|Line { line }| line).collect()
}

async fn migrated(url: &str) -> Columns {
    let columns = lines(
        url,
        "SELECT table_name || '.' || column_name || ' ' || data_type || \
             CASE is_nullable WHEN 'YES' THEN '?' ELSE '' END AS line \
         FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> '__diesel_schema_migrations'",
    )
    .await;
    columns.iter().map(|line| line.split_once(' ').unwrap()).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// Reads `shared/src/schema.rs`: `table! { name (keys) { column -> Type, … } }`.
fn declared() -> (Columns, Vec<String>) {
    let source = std::fs::read_to_string(harness::project_root().join("shared/src/schema.rs")).unwrap();
    let (mut columns, mut keys) = (Columns::new(), Vec::new());
    for table in source.split("table! {").skip(1) {
        let (head, rest) = table.split_once('{').unwrap();
        let (name, key) = head.split_once('(').unwrap();
        let name = name.trim();
        keys.push(format!("{name} {}", key.trim().trim_end_matches(')')));
        for column in rest.split_once('}').unwrap().0.split(',').map(str::trim).filter(|column| !column.is_empty()) {
            let (column, declared) = column.split_once("->").unwrap();
            columns.insert(format!("{name}.{}", column.trim()), sql_type(declared.trim()));
        }
    }
    keys.sort();
    (columns, keys)
}

fn sql_type(declared: &str) -> String {
    if let Some(inner) = declared.strip_prefix("Nullable<") {
        return sql_type(inner.trim_end_matches('>')) + "?";
    }
    let known = [
        ("Uuid", "uuid"),
        ("Text", "text"),
        ("Jsonb", "jsonb"),
        ("Timestamptz", "timestamp with time zone"),
        ("Date", "date"),
        ("Bool", "boolean"),
        ("Bytea", "bytea"),
        ("Int2", "smallint"),
        ("Int4", "integer"),
        ("Int8", "bigint"),
        ("Float8", "double precision"),
        ("Numeric", "numeric"),
        ("Inet", "inet"),
        ("Array<Text>", "ARRAY"),
        ("Array<Int4>", "ARRAY"),
    ];
    let found = known.iter().find(|(diesel, _)| *diesel == declared).map(|(_, sql)| (*sql).to_owned());
    found.unwrap_or_else(|| format!("unknown to this test: {declared}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn diesels_picture_of_the_tables_is_what_the_migrations_make() {
    let world = World::new().await;
    let (columns, keys) = declared();
    assert!(columns.len() > 100, "{} columns were read", columns.len());
    assert_eq!(columns, migrated(&world.database()).await);
    let made = lines(
        &world.database(),
        "SELECT conrelid::regclass || ' ' || string_agg(attname, ', ' ORDER BY place) AS line \
         FROM pg_constraint, UNNEST(conkey) WITH ORDINALITY AS part (number, place), pg_attribute \
         WHERE contype = 'p' AND connamespace = 'public'::regnamespace AND attrelid = conrelid AND attnum = part.number \
           AND conrelid <> '__diesel_schema_migrations'::regclass \
         GROUP BY conrelid ORDER BY 1",
    )
    .await;
    assert_eq!(keys, made);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_migration_can_be_undone_and_applied_again() {
    let world = World::new().await;
    let url = world.database();
    let before = migrated(&url).await;
    let conn = db::connect(&url).await.unwrap();
    tokio::task::block_in_place(|| {
        let mut harness = AsyncMigrationHarness::new(conn);
        assert!(harness.revert_all_migrations(MIGRATIONS).unwrap().len() >= 3);
    });
    assert_eq!(migrated(&url).await, Columns::new(), "nothing is left");
    db::migrate(&url).await.unwrap();
    assert_eq!(migrated(&url).await, before);
    assert_eq!(db::migrate(&url).await.unwrap(), Vec::<String>::new(), "there is nothing more to do");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_foreign_key_has_an_index() {
    let world = World::new().await;
    let without = lines(
        &world.database(),
        "SELECT conrelid::regclass || ': ' || conname AS line FROM pg_constraint k WHERE contype = 'f' AND NOT EXISTS ( \
             SELECT FROM pg_index i WHERE i.indrelid = k.conrelid \
             AND (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey \
             AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) LIKE '%IS NOT NULL%'))",
    )
    .await;
    assert_eq!(without, Vec::<String>::new(), "deleting what they point to would read whole tables");
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_together_migrate_once() {
    let world = World::new().await;
    let url = world.database();
    let conn = db::connect(&url).await.unwrap();
    tokio::task::block_in_place(|| AsyncMigrationHarness::new(conn).revert_all_migrations(MIGRATIONS).map(drop))
        .unwrap();
    // a task each: a migration blocks the thread of its task
    let mut starting = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let url = url.clone();
        starting.spawn(async move { db::migrate(&url).await.unwrap() });
    }
    let applied = starting.join_all().await;
    let all: Vec<_> = applied.iter().flatten().collect();
    let names: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(all.len(), names.len(), "each migration was applied by one of them: {applied:?}");
    assert!(all.len() >= 3);
}
