//! Two organizations with one of each thing for everybody in them.

use super::{ROLES, table::Route};
use harness::{Api, Client, Member, World, project_root};
use reqwest::{
    Method,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Somebody with one of each thing.
pub(super) struct Person {
    pub(super) member: Member,
    /// Path up to and with the parameter → id.
    things: BTreeMap<&'static str, String>,
    /// An API key for everything, made before the role was given.
    pub(super) early_key: String,
}

/// An organization with one person of each role and an owner of things beside them, and somebody of another one.
pub(super) struct Company {
    world: World,
    api: Api,
    /// In the order of the roles.
    pub(super) staff: Vec<Person>,
    /// A member.
    pub(super) owner: Person,
    pub(super) foreign: Person,
}

fn id(made: &Value) -> String {
    made["id"].as_str().unwrap().to_owned()
}

async fn pipeline(member: &Member) -> (String, String) {
    let body = json!({
        "name": "Of the house",
        "nodes": [{ "id": "in", "type": "input" }, { "id": "out", "type": "output" }],
        "connections": [{ "source": "in", "target": "out" }],
    });
    let pipeline = id(&member.client.post("/pipelines", body).await.expect(201));
    let schedule = json!({ "cron": "0 3 * * *", "enabled": false, "inputs": { "in": { "text": "x" } } });
    let schedule = member.client.post(&format!("/pipelines/{pipeline}/schedules"), schedule).await.expect(201);
    (pipeline, id(&schedule))
}

/// A project with a repository, and an orchestration of another one that has ended.
async fn orchestration(world: &World, member: &Member) -> (String, String) {
    let (_, organization) = member.place().await;
    let project = world.project_in(organization, member.id(), "Lamps", json!({})).await;
    world
        .run_sql(&format!(
            "INSERT INTO project_repositories (project_id, head, s3_key, size, commits) VALUES ('{project}', 'x', 'y', 1, 1)"
        ))
        .await;
    let other = world.project_in(organization, member.id(), "Chairs", json!({})).await;
    let run = member.client.post("/orchestrate", json!({ "project_id": other })).await.expect(201);
    let run = run["run_id"].as_str().unwrap().to_owned();
    member.client.post(&format!("/orchestration/{run}/cancel"), json!({})).await.expect(200);
    (project.to_string(), run)
}

async fn project(member: &Member) -> String {
    id(&member.client.post("/projects", json!({ "name": "Of the house" })).await.expect(201))
}

async fn template(member: &Member) -> String {
    let body = json!({ "name": "Of the house", "template_data": { "phases": ["One"] } });
    id(&member.client.post("/templates", body).await.expect(201))
}

/// One of each thing. `inviter` invites for those who may not.
async fn things(world: &World, member: &Member, inviter: &Member) -> BTreeMap<&'static str, String> {
    let client = &member.client;
    let (pipeline, schedule) = pipeline(member).await;
    let run = json!({ "inputs": { "in": { "text": "hello" } } });
    let run = client.post(&format!("/pipelines/{pipeline}/run"), run).await.expect(202);
    let execution = run["execution_id"].as_str().unwrap().to_owned();
    // its events end, and it can be tried again
    client.post(&format!("/executions/{execution}/cancel"), json!({})).await.expect(200);

    let (project, orchestration) = orchestration(world, member).await;
    let product = member.product("Mug of the house").await;
    let file = project_root().join("tests/images/rocket.jpg");
    let (image, job) = member.analysed_image(&product, &file, "image/jpeg").await;
    client.post(&format!("/jobs/{job}/cancel"), json!({})).await.expect(200);
    let batch = json!({ "product_id": product, "image_ids": [image] });
    let batch = id(&client.post("/batch", batch).await.expect(201));

    let hook = json!({ "url": "https://hooks.example.com/", "events": ["job.completed"], "name": "Of the house" });
    let hook = id(&client.post("/webhooks", hook).await.expect(201));
    let delivery = client.post(&format!("/webhooks/{hook}/test"), json!({})).await.expect(202);
    let form = Form::new().part("file", Part::bytes(b"of the house".as_slice()).file_name("house.txt"));
    let file = client.send(client.request(Method::POST, "/api/v1/files/upload").multipart(form)).await.expect(201);
    let key = json!({ "name": "of the house", "permissions": ["ai:read"] });
    let key = id(&client.post("/api-keys", key).await.expect(201));
    login(member).await;
    let sessions = client.get("/auth/sessions").await.expect(200);
    let session = sessions["data"].as_array().unwrap().iter().find(|session| session["current"] == false).unwrap();

    let invitation = inviter.invite(&format!("guest-{}@example.com", member.id()), "viewer").await;
    let (_, organization) = member.place().await;
    BTreeMap::from([
        ("/pipelines/{id}", pipeline),
        ("/pipelines/{id}/schedules/{schedule_id}", schedule),
        ("/executions/{id}", execution),
        ("/projects/{project_id}", project),
        ("/orchestration/{run_id}", orchestration),
        ("/templates/{template_id}", template(member).await),
        ("/products/{product_id}", product),
        ("/products/{product_id}/images/{image_id}", image.clone()),
        ("/analysis/{image_id}", image),
        ("/jobs/{job_id}", job),
        ("/batch/{job_id}", batch),
        ("/webhooks/{id}", hook),
        ("/webhooks/{id}/deliveries/{delivery_id}", delivery["delivery_id"].as_str().unwrap().to_owned()),
        ("/files/{id}", id(&file)),
        ("/api-keys/{id}", key),
        ("/auth/sessions/{id}", id(session)),
        ("/organizations/current/members/{user_id}", member.id().to_string()),
        ("/organizations/current/invitations/{id}", id(&invitation)),
        ("/organizations/{id}", organization.to_string()),
    ])
}

/// Logs in once more.
async fn login(member: &Member) -> Client {
    let login = json!({ "email": member.email, "password": member.password });
    let answer = member.client.anonymous().post("/auth/login", login).await.expect(200);
    member.client.with_token(answer["access_token"].as_str().unwrap())
}

async fn key(member: &Member, permissions: &[&str]) -> String {
    let body = json!({ "name": "matrix", "permissions": permissions });
    let made = member.client.post("/api-keys", body).await.expect(201);
    made["key"].as_str().unwrap().to_owned()
}

impl Person {
    async fn new(world: &World, member: Member, inviter: &Member) -> Self {
        let things = things(world, &member, inviter).await;
        let early_key = key(&member, &["*"]).await;
        Self { member, things, early_key }
    }

    pub(super) fn client(&self) -> Client {
        self.member.client.clone()
    }

    /// Logged in once more.
    pub(super) async fn another_session(&self) -> Client {
        login(&self.member).await
    }

    /// A new API key.
    pub(super) async fn key(&self, permissions: &[&str]) -> String {
        key(&self.member, permissions).await
    }

    /// The id that stands for a parameter: the path up to and with it.
    pub(super) fn id(&self, parameter: &str) -> &str {
        assert!(self.things.contains_key(parameter), "there is no {parameter} among the things");
        &self.things[parameter]
    }

    /// The path of a route with this person's things.
    pub(super) fn fill(&self, route: &Route) -> String {
        fill(route, |parameter| self.id(parameter).to_owned())
    }

    /// The same with things that were just made, where others may delete them.
    pub(super) async fn fill_anew(&self, route: &Route) -> String {
        if route.path.starts_with("/projects/") {
            let made = project(&self.member).await;
            return fill(route, |_| made.clone());
        }
        if route.path.starts_with("/templates/") {
            let made = template(&self.member).await;
            return fill(route, |_| made.clone());
        }
        if !route.path.starts_with("/pipelines/") {
            return self.fill(route);
        }
        let (pipeline, schedule) = pipeline(&self.member).await;
        fill(route, |parameter| if parameter.ends_with("{schedule_id}") { schedule.clone() } else { pipeline.clone() })
    }
}

fn fill(route: &Route, id: impl Fn(&str) -> String) -> String {
    let mut parameter = String::new();
    let filled = route.path.split('/').skip(1).map(|part| {
        parameter.push('/');
        parameter.push_str(part);
        if part.starts_with('{') { id(&parameter) } else { part.to_owned() }
    });
    filled.fold(String::new(), |path, part| path + "/" + &part)
}

impl Company {
    pub(super) async fn new() -> Self {
        let world = World::new().await;
        let settings = [("ATELIER_RATE_LIMITS", "off"), ("ATELIER_LOCAL_LLM_URL", "http://127.0.0.1:9/v1")];
        let api = world.api_with(&settings).await;
        let admin = world.member(&api).await;
        let mut colleagues = Vec::new();
        for _ in 1..=ROLES.len() {
            colleagues.push(world.colleague(&api, &admin, "member").await);
        }
        let foreign = world.member(&api).await;
        let things = self::things(&world, &foreign, &foreign).await;
        let foreign = Person { early_key: key(&foreign, &["*"]).await, member: foreign, things };
        let owner = Person::new(&world, colleagues.pop().unwrap(), &admin).await;
        let mut staff = Vec::new();
        for (member, role) in colleagues.into_iter().zip(&ROLES[1..]) {
            let person = Person::new(&world, member, &admin).await;
            let path = format!("/organizations/current/members/{}", person.member.id());
            admin.client.put(&path, json!({ "role": role })).await.expect(200);
            staff.push(person);
        }
        let things = self::things(&world, &admin, &admin).await;
        staff.insert(0, Person { early_key: key(&admin, &["*"]).await, member: admin, things });
        Self { world, api, staff, owner, foreign }
    }

    pub(super) fn anonymous(&self) -> Client {
        self.world.client(&self.api)
    }

    /// Ids, addresses and names that nobody outside is to see.
    pub(super) fn everything(&self) -> Vec<String> {
        let people = self.staff.iter().chain([&self.owner]);
        let of =
            |person: &Person| person.things.values().cloned().chain([person.member.email.clone()]).collect::<Vec<_>>();
        people.flat_map(of).collect()
    }

    /// Clears away what waits to be done, and what the walks have started.
    pub(super) async fn close(self) {
        self.world.run_sql("DELETE FROM jobs WHERE status = 'queued'").await;
    }
}
