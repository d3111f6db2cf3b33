//! Lists over real tables: pages, cursors, order, search and filters. Products stand for all lists, which share the code.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use diesel_async::RunQueryDsl;
use harness::{Api, Member, World};
use serde_json::Value;
use std::collections::BTreeSet;
use uuid::Uuid;

/// A member with `count` products, each in one of three categories; every three of them were made at the same moment.
async fn shop(world: &World, count: i32) -> (Api, Member) {
    let api = world.api().await;
    let member = world.member(&api).await;
    let user: Uuid = member.registration["id"].as_str().unwrap().parse().unwrap();
    diesel::sql_query(
        "INSERT INTO products (id, user_id, title, description, category, status, created_at, updated_at) \
         SELECT gen_random_uuid(), $1, 'Lamp ' || lpad(n::text, 3, '0'), \
                CASE WHEN n % 10 = 0 THEN '50% off_sale \\ today' END, \
                CASE n % 3 WHEN 0 THEN 'home' WHEN 1 THEN 'garden' END, \
                CASE n % 2 WHEN 0 THEN 'active' ELSE 'draft' END, \
                timestamptz '2025-01-01' + (n / 3) * interval '1 day 1 microsecond', now() \
         FROM generate_series(0, $2 - 1) n",
    )
    .bind::<diesel::sql_types::Uuid, _>(user)
    .bind::<diesel::sql_types::Int4, _>(count)
    .execute(&mut world.conn().await)
    .await
    .unwrap();
    (api, member)
}

async fn list(member: &Member, query: &str) -> Value {
    member.client.get(&format!("/products?{query}")).await.expect(200)
}

fn titles(page: &Value) -> Vec<String> {
    page["data"].as_array().unwrap().iter().map(|row| row["title"].as_str().unwrap().to_owned()).collect()
}

/// Everything from the first page to the last, by `next_cursor`.
async fn walk(member: &Member, query: &str) -> Vec<Value> {
    let mut pages = vec![list(member, query).await];
    while let Some(cursor) = pages.last().unwrap()["pagination"]["next_cursor"].as_str() {
        let cursor = cursor.to_owned();
        pages.push(list(member, &format!("{query}&cursor={cursor}")).await);
        assert!(pages.len() < 100, "the list does not end");
    }
    pages
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_do_not_overlap_and_say_where_they_are() {
    let world = World::new().await;
    let (_api, member) = shop(&world, 47).await;
    let mut seen = BTreeSet::new();
    for page in 1..=5 {
        let body = list(&member, &format!("page={page}&limit=10")).await;
        let pagination = &body["pagination"];
        assert_eq!(pagination["total"], 47);
        assert_eq!(pagination["pages"], 5);
        assert_eq!((&pagination["page"], &pagination["offset"]), (&Value::from(page), &Value::from((page - 1) * 10)));
        assert_eq!(pagination["has_next"], page < 5);
        assert_eq!(pagination["has_prev"], page > 1);
        assert_eq!(pagination["next_cursor"].is_string(), page < 5);
        assert_eq!(pagination["prev_cursor"].is_string(), page > 1);
        seen.extend(titles(&body));
    }
    assert_eq!(seen.len(), 47);
    let beyond = list(&member, "page=9&limit=10").await;
    assert_eq!((titles(&beyond).len(), &beyond["pagination"]["has_next"]), (0, &Value::Bool(false)));
    assert_eq!(list(&member, "").await["pagination"]["limit"], 20);
    assert_eq!(titles(&list(&member, "offset=45&limit=10&page=1").await).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_walk_the_whole_list_forth_and_back_in_every_order() {
    let world = World::new().await;
    let (_api, member) = shop(&world, 47).await;
    // category is missing in every third product, and three products share each time of creation
    for sort in
        ["-created_at", "created_at", "title", "-category,title", "category", "status,-created_at", "-status,-category"]
    {
        let query = format!("limit=7&sort={sort}");
        let whole = titles(&list(&member, &format!("limit=100&sort={sort}")).await);
        let pages = walk(&member, &query).await;
        let forth: Vec<_> = pages.iter().flat_map(titles).collect();
        assert_eq!(forth, whole, "forth by {sort}");
        for (index, page) in pages.iter().enumerate() {
            assert_eq!(page["pagination"]["offset"], index * 7, "{sort}");
            assert_eq!(page["pagination"]["page"], index + 1, "{sort}");
        }
        let mut back = Vec::new();
        let mut page = pages.last().unwrap().clone();
        loop {
            back.splice(0..0, titles(&page));
            let Some(cursor) = page["pagination"]["prev_cursor"].as_str() else { break };
            page = list(&member, &format!("{query}&cursor={cursor}")).await;
            assert_eq!(page["pagination"]["has_next"], true);
        }
        assert_eq!(back, whole, "back by {sort}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn elements_without_a_value_come_last_in_either_direction() {
    let world = World::new().await;
    let (_api, member) = shop(&world, 9).await;
    for sort in ["category", "-category"] {
        let page = list(&member, &format!("sort={sort}")).await;
        let missing: Vec<_> = page["data"].as_array().unwrap().iter().map(|row| row["category"].is_null()).collect();
        assert_eq!(missing, [false, false, false, false, false, false, true, true, true], "{sort}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_is_not_shifted_by_what_comes_and_goes() {
    let world = World::new().await;
    let (_api, member) = shop(&world, 20).await;
    let first = list(&member, "limit=5&sort=title").await;
    let cursor = first["pagination"]["next_cursor"].as_str().unwrap();
    member.product("A newcomer in front").await;
    let gone = first["data"][4]["id"].as_str().unwrap();
    member.client.delete(&format!("/products/{gone}")).await.expect(204);
    let second = list(&member, &format!("limit=5&sort=title&cursor={cursor}")).await;
    assert_eq!(titles(&second)[0], "Lamp 005");
}

#[tokio::test(flavor = "multi_thread")]
async fn search_takes_every_word_as_it_is_written() {
    let world = World::new().await;
    let (_api, member) = shop(&world, 30).await;
    let found = async |search: &str| {
        let query: String = url::form_urlencoded::Serializer::new(String::new()).append_pair("search", search).finish();
        titles(&list(&member, &format!("limit=100&{query}")).await).len()
    };
    assert_eq!(found("lamp").await, 30);
    assert_eq!(found("LAMP 01").await, 11, "010 to 019 and 001 hold it");
    assert_eq!(found("lamp sale").await, 3, "one word in the title, the other in the description");
    assert_eq!(found("50%").await, 3);
    assert_eq!(found("%").await, 3, "no wildcard");
    assert_eq!(found("_").await, 3, "no wildcard");
    assert_eq!(found("\\").await, 3, "no escape");
    assert_eq!(found("' OR 1=1 --").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_and_times_choose_and_the_total_follows() {
    let world = World::new().await;
    let (_api, member) = shop(&world, 30).await;
    for (query, total) in [
        ("status=active", 15),
        ("status=active,draft", 30),
        ("category=home", 10),
        ("category=home,garden", 20),
        ("category=home&status=draft", 5),
        ("created_after=2025-01-10", 3),
        ("created_before=2025-01-01", 3),
        ("created_after=2025-01-02&created_before=2025-01-02", 3),
        ("created_after=2025-01-02T00:00:00.000001Z&created_before=2025-01-02T00:00:00.000001Z", 3),
        ("created_after=2025-01-02T00:00:00.000002Z&created_before=2025-01-02", 0),
        ("created_after=2025-01-02T01:00:00.000001%2B01:00&created_before=2025-01-02", 3),
    ] {
        let page = list(&member, query).await;
        assert_eq!(page["pagination"]["total"], total, "{query}");
    }
    let other = member.client.get("/products?status=lost&limit=0&sort=colour&cursor=x&created_after=soon").await;
    let details = other.body["error"]["details"].as_array().unwrap().len();
    assert_eq!((details, other.error(400)), (5, "VALIDATION_ERROR".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_shows_nothing_of_anybody_else() {
    let world = World::new().await;
    let (api, member) = shop(&world, 12).await;
    let other = world.member(&api).await;
    let page = list(&other, "").await;
    assert_eq!(page["pagination"]["total"], 0);
    assert_eq!(page["pagination"]["pages"], 0);
    let cursor = list(&member, "limit=5").await["pagination"]["next_cursor"].as_str().unwrap().to_owned();
    let stolen = list(&other, &format!("limit=5&cursor={cursor}")).await;
    assert_eq!(titles(&stolen).len(), 0);
}
