//! Files: uploading them, finding them again, and reading them through their URLs.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use harness::{Answer, Client, Member, World, eventually};
use reqwest::{
    Method, Response,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use shared::{
    config::{ObjectStore, Reader},
    storage::{PART_BYTES, Storage},
};
use std::collections::BTreeSet;
use uuid::Uuid;

const LIMIT: usize = 50 * 1024 * 1024;

fn store(world: &World) -> Storage {
    Storage::new(&ObjectStore::read(&mut Reader::new(world.settings(&[]))))
}

fn part(bytes: impl Into<Vec<u8>>, filename: &str) -> Part {
    Part::bytes(bytes.into()).file_name(filename.to_owned())
}

fn form(part: Part) -> Form {
    Form::new().part("file", part)
}

async fn send(client: &Client, form: Form) -> Answer {
    client.send(client.request(Method::POST, "/api/v1/files/upload").multipart(form)).await
}

async fn upload(member: &Member, bytes: impl Into<Vec<u8>>, filename: &str) -> Value {
    send(&member.client, form(part(bytes, filename))).await.expect(201)
}

fn url(file: &Value) -> &str {
    file["url"].as_str().unwrap()
}

fn id(file: &Value) -> Uuid {
    file["id"].as_str().unwrap().parse().unwrap()
}

async fn fetch(url: &str, headers: &[(&str, &str)]) -> Response {
    let request = reqwest::Client::new().get(url);
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send().await.unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers()[name].to_str().unwrap()
}

/// Bytes without a pattern that repeats within a part.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_uploaded_listed_read_through_its_url_and_deleted() {
    let world = World::new().await;
    let api = world.api().await;
    let (member, other) = (world.member(&api).await, world.member(&api).await);
    let file = upload(&member, "Grüße\n", "../notes/Grüße 1.txt").await;
    assert_eq!((&file["filename"], &file["size"]), (&json!("Grüße 1.txt"), &json!(8)));
    assert_eq!(file["mime_type"], "text/plain");

    let path = format!("/files/{}", id(&file));
    let shown = member.client.get(&path).await.expect(200);
    for key in ["id", "filename", "size", "mime_type", "created_at"] {
        assert_eq!(shown[key], file[key], "{key}");
    }
    let listed = member.client.get("/files").await.expect(200);
    assert_eq!((&listed["data"][0]["id"], &listed["pagination"]["limit"]), (&file["id"], &json!(50)));
    for file in [&file, &shown, &listed["data"][0]] {
        let fetched = fetch(url(file), &[]).await;
        assert_eq!(fetched.status(), 200);
        assert_eq!(header(&fetched, "content-type"), "text/plain");
        assert_eq!(header(&fetched, "content-length"), "8");
        assert_eq!(header(&fetched, "x-content-type-options"), "nosniff");
        assert_eq!(
            header(&fetched, "content-disposition"),
            "attachment; filename=\"Gr__e 1.txt\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe%201.txt"
        );
        assert_eq!(fetched.bytes().await.unwrap(), "Grüße\n");
    }

    assert_eq!(other.client.get("/files").await.expect(200)["pagination"]["total"], 0);
    assert_eq!(other.client.get(&path).await.error(404), "RESOURCE_NOT_FOUND");
    assert_eq!(other.client.delete(&path).await.error(404), "RESOURCE_NOT_FOUND");
    let deleted = member.client.delete(&path).await.expect(200);
    assert_eq!(deleted, json!({ "message": "File deleted successfully" }));
    assert_eq!(fetch(url(&file), &[]).await.status(), 404, "its URL stops at once");
    member.client.get(&path).await.error(404);
    member.client.delete(&path).await.error(404);
    let key = format!("files/{}/{}", member.id(), id(&file));
    assert!(store(&world).head(&key).await.unwrap().is_some());
    let _scheduler = world.scheduler_with(&[("ATELIER_OBJECTS_EVERY", "1")]).await;
    eventually("the bytes to go", async || store(&world).head(&key).await.unwrap().is_none().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_any_length_come_back_as_they_went() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let noise = noise(3 * PART_BYTES + 7);
    for length in [1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES, 3 * PART_BYTES + 7] {
        let sent = noise[..length].to_vec();
        let hash = Sha256::digest(&sent);
        let file = upload(&member, sent, "noise.bin").await;
        assert_eq!((&file["size"], &file["filename"]), (&json!(length), &json!("noise.bin")));
        let fetched = fetch(url(&file), &[]).await.bytes().await.unwrap();
        assert_eq!((fetched.len(), Sha256::digest(&fetched)), (length, hash));
    }
    assert_eq!(world.count_rows("file_uploads").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_type_is_what_the_sender_says_or_else_what_the_bytes_say() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let photo = std::fs::read(harness::project_root().join("tests/images/rocket.jpg")).unwrap();
    let large = [b"%PDF-1.7\n", noise(PART_BYTES).as_slice()].concat();
    for (bytes, declared, expected) in [
        (photo.clone(), None, "image/jpeg"),
        (photo.clone(), Some("application/octet-stream"), "image/jpeg"),
        (photo, Some("image/x-mine"), "image/x-mine"),
        (b"<html><script>alert(1)</script>".to_vec(), Some("text/html; charset=utf-8"), "text/html; charset=utf-8"),
        (b"{\"a\": 1}".to_vec(), None, "text/plain"),
        (vec![0, 1, 2], None, "application/octet-stream"),
        (large, None, "application/pdf"),
    ] {
        let sent = part(bytes, "file");
        let sent = if let Some(declared) = declared { sent.mime_str(declared).unwrap() } else { sent };
        let file = send(&member.client, form(sent)).await.expect(201);
        assert_eq!(file["mime_type"], expected, "{declared:?}");
        assert_eq!(header(&fetch(url(&file), &[]).await, "content-type"), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_kept_is_refused_and_leaves_nothing() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let client = &member.client;
    for (what, form) in [
        ("no file", Form::new().text("note", "nothing")),
        ("an empty one", form(part("", "a.txt"))),
        ("a large one", form(part(vec![7; LIMIT + 1], "a.bin"))),
        ("two", form(part("a", "a.txt")).part("file", part("b", "b.txt"))),
        ("two, the first of many parts", form(part(noise(PART_BYTES + 1), "a")).part("file", part("b", "b.txt"))),
    ] {
        let answer = send(client, form).await;
        assert_eq!(answer.body["error"]["details"][0]["field"], "file", "{what}: {}", answer.text);
        assert_eq!(answer.error(400), "VALIDATION_ERROR", "{what}");
    }
    assert_eq!(client.post("/files/upload", json!({})).await.error(400), "VALIDATION_ERROR");
    assert_eq!(client.get("/files").await.expect(200)["pagination"]["total"], 0);
    assert_eq!(world.count_rows("file_uploads").await, 0);
    let _scheduler = world.scheduler_with(&[("ATELIER_OBJECTS_EVERY", "1")]).await;
    eventually("what was stored to go", async || (world.count_rows("object_deletions").await == 0).then_some(())).await;
    assert_eq!(upload(&member, vec![7; LIMIT], "a.bin").await["size"], LIMIT, "the largest one is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_url_is_good_for_nothing_else() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let (file, other) = (upload(&member, "one", "a.txt").await, upload(&member, "two", "a.txt").await);
    let good = url(&file);
    let (bare, query) = good.split_once('?').unwrap();
    let signature = query.split("signature=").nth(1).unwrap();
    let expires = query.split(['=', '&']).nth(1).unwrap();
    let later = expires.parse::<i64>().unwrap() + 1;
    for forged in [
        bare.to_owned(),
        format!("{bare}?expires={expires}"),
        format!("{bare}?signature={signature}"),
        format!("{bare}?expires={later}&signature={signature}"),
        format!("{bare}?expires=soon&signature={signature}"),
        format!("{bare}?expires={expires}&signature=%00"),
        format!("{}?{query}", url(&other).split('?').next().unwrap()),
    ] {
        let answer = fetch(&forged, &[]).await;
        assert_eq!(answer.status(), 403, "{forged}");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["error"]["code"], "INSUFFICIENT_PERMISSIONS");
    }
    // credentials are of no use in its place
    let path = format!("/files/{}/content", id(&file));
    assert_eq!(member.client.get(&path).await.error(403), "INSUFFICIENT_PERMISSIONS");
    assert_eq!(fetch(good, &[("authorization", "Bearer nonsense")]).await.status(), 200);
    let unknown = good.replace(&id(&file).to_string(), "no-id");
    assert_eq!(fetch(&unknown, &[]).await.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_file_can_be_read_and_its_length_asked_for() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let bytes = noise(PART_BYTES + 100);
    let length = bytes.len();
    let file = upload(&member, bytes.clone(), "a.bin").await;
    let url = url(&file);

    let head = reqwest::Client::new().head(url).send().await.unwrap();
    assert_eq!((head.status().as_u16(), header(&head, "content-length")), (200, length.to_string().as_str()));
    assert_eq!(
        (header(&head, "accept-ranges"), header(&head, "etag")),
        ("bytes", format!("\"{}\"", id(&file)).as_str())
    );
    let version = header(&head, "etag").to_owned();

    let last = length - 1;
    for (range, first, end) in [
        ("bytes=0-0".to_owned(), 0, 0),
        (format!("bytes={}-{}", PART_BYTES - 1, PART_BYTES), PART_BYTES - 1, PART_BYTES),
        (format!("bytes={}-", length - 10), length - 10, last),
        ("bytes=-3".to_owned(), length - 3, last),
        (format!("bytes={}-{}", length - 2, length + 2), length - 2, last),
    ] {
        let fetched = fetch(url, &[("range", &range), ("if-range", &version)]).await;
        assert_eq!(fetched.status(), 206, "{range}");
        assert_eq!(header(&fetched, "content-range"), format!("bytes {first}-{end}/{length}"));
        assert_eq!(fetched.bytes().await.unwrap(), bytes[first..=end], "{range}");
    }
    for headers in [[("range", "bytes=0-0"), ("if-range", "\"another\"")], [("range", "bytes=0-0,5-6"), ("x-a", "b")]] {
        let fetched = fetch(url, &headers).await;
        assert_eq!((fetched.status().as_u16(), fetched.bytes().await.unwrap().len()), (200, length), "{headers:?}");
    }
    let beyond = fetch(url, &[("range", &format!("bytes={length}-"))]).await;
    assert_eq!(
        (beyond.status().as_u16(), header(&beyond, "content-range")),
        (416, format!("bytes */{length}").as_str())
    );
    let error: Value = beyond.json().await.unwrap();
    assert_eq!(error["error"]["code"], "VALIDATION_ERROR");
    let head = reqwest::Client::new().head(url).header("range", "bytes=5-9").send().await.unwrap();
    assert_eq!((head.status().as_u16(), header(&head, "content-length")), (206, "5"));
}

#[tokio::test(flavor = "multi_thread")]
async fn urls_lead_to_where_the_client_came_from_or_to_the_public_address() {
    let world = World::new().await;
    let (api, public) =
        (world.api().await, world.api_with(&[("ATELIER_PUBLIC_URL", "https://atelier.example/base/")]).await);
    let member = world.member(&api).await;
    let file = upload(&member, "one", "a.txt").await;
    assert!(url(&file).starts_with(&format!("http://{}/api/v1/files/", api.address)), "{file}");
    let elsewhere = world.client(&public).with_token(member.client.token());
    let shown = elsewhere.get(&format!("/files/{}", id(&file))).await.expect(200);
    assert!(url(&shown).starts_with("https://atelier.example/base/api/v1/files/"), "{shown}");
    // any replica knows the signature
    let query = url(&shown).split_once('?').unwrap().1;
    let there = format!("http://{}/api/v1/files/{}/content?{query}", public.address, id(&file));
    assert_eq!(fetch(&there, &[]).await.text().await.unwrap(), "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_limited_and_signed_urls_are_not() {
    let world = World::new().await;
    let api = world.api_with(&[("ATELIER_RATE_LIMITS", "on")]).await;
    let member = world.member(&api).await;
    let file = send(&member.client, form(part("one", "a.txt"))).await;
    assert_eq!(
        (file.headers["x-ratelimit-endpoint"].to_str().unwrap(), &file.headers["x-ratelimit-limit"]),
        ("uploads", &"30".parse().unwrap())
    );
    let file = file.expect(201);
    for _ in 0..250 {
        let fetched = fetch(url(&file), &[]).await;
        assert_eq!(fetched.status(), 200);
        assert!(!fetched.headers().contains_key("x-ratelimit-limit"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_sorted_searched_and_paged() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    for (bytes, name) in [("ccc", "plan b.txt"), ("a", "Plan A.md"), ("bb", "photo.txt")] {
        upload(&member, bytes, name).await;
    }
    let names = async |query: &str| {
        let page = member.client.get(&format!("/files?{query}")).await.expect(200);
        let names = page["data"].as_array().unwrap().iter().map(|file| file["filename"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names("").await, ["photo.txt", "Plan A.md", "plan b.txt"]);
    assert_eq!(names("sort=size").await, ["Plan A.md", "photo.txt", "plan b.txt"]);
    assert_eq!(names("sort=-size&limit=1&offset=1").await, ["photo.txt"]);
    assert_eq!(names("search=PLAN&sort=created_at").await, ["plan b.txt", "Plan A.md"]);
    assert_eq!(names("search=plan%20txt").await, ["plan b.txt"]);
    let sorted: BTreeSet<_> = names("sort=filename").await.into_iter().collect();
    assert_eq!(sorted.len(), 3);
    for query in ["sort=mime_type", "limit=101", "cursor=x"] {
        assert_eq!(member.client.get(&format!("/files?{query}")).await.error(400), "VALIDATION_ERROR", "{query}");
    }
    member.client.get("/files/17").await.error(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_repeated_with_its_key_is_kept_once() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let send = async |bytes: Vec<u8>| {
        let request = member.client.request(Method::POST, "/api/v1/files/upload").header("idempotency-key", "k");
        member.client.send(request.multipart(form(part(bytes, "a.bin")))).await
    };
    let bytes = noise(PART_BYTES + 1);
    let (first, second) = (send(bytes.clone()).await, send(bytes.clone()).await);
    assert_eq!((first.status.as_u16(), &first.text), (201, &second.text));
    assert_eq!(second.headers["idempotent-replayed"], "true");
    assert_eq!(send(noise(5)).await.error(422), "UNPROCESSABLE_ENTITY");
    assert_eq!((world.count_rows("files").await, world.count_rows("file_uploads").await), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_an_account_go_with_it() {
    let world = World::new().await;
    let api = world.api().await;
    let member = world.member(&api).await;
    let file = upload(&member, "one", "a.txt").await;
    let request = member.client.request(Method::DELETE, "/api/v1/users/me");
    member.client.send(request.json(&json!({ "password": member.password }))).await.expect(204);
    assert_eq!(fetch(url(&file), &[]).await.status(), 404);
    let noted = format!("object_deletions WHERE key = 'files/{}/{}'", member.id(), id(&file));
    assert_eq!((world.count_rows("files").await, world.count_rows(&noted).await), (0, 1));
}
