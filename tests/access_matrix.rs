//! Who may do what: every route with every role, with somebody of another organization, with nobody, and with a key of
//! each permission. What is expected stands in `table`, written down from the contract and not from the code.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

mod people;
mod table;

use harness::{Answer, Client, World};
use people::{Company, Person};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use table::{Key, OPEN, ROUTES, Roles, Route, Thing};

const ROLES: [&str; 4] = ["admin", "manager", "member", "viewer"];

/// No handler takes a list for a body: a route that looks at its body is let through to, and then does nothing.
fn probe(client: &Client, route: &Route, path: &str) -> reqwest::RequestBuilder {
    let request = client.request(route.method(), &format!("/api/v1{path}"));
    if route.method() == Method::GET { request } else { request.json(&json!([])) }
}

fn code(answer: &Answer) -> &str {
    answer.body["error"]["code"].as_str().unwrap_or_default()
}

/// Whether somebody came past everything that asks who it is and whose it is.
fn let_in(answer: &Answer) -> bool {
    let refused = ["AUTHENTICATION_REQUIRED", "INSUFFICIENT_PERMISSIONS", "RESOURCE_NOT_FOUND", "METHOD_NOT_ALLOWED"];
    !answer.status.is_server_error() && !refused.contains(&code(answer))
}

fn refused(answer: &Answer) -> bool {
    answer.status.as_u16() == 403 && code(answer) == "INSUFFICIENT_PERMISSIONS"
}

/// Gathers what is not as it should be, so that one run shows all of it.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn expect(&mut self, right: bool, who: &str, route: &Route, expected: &str, answer: &Answer) {
        if !right {
            let text: String = answer.text.chars().take(200).collect();
            self.0.push(format!("{who}: {route}: expected {expected}, got {} {text}", answer.status));
        }
    }

    fn none(self) {
        assert!(self.0.is_empty(), "{} findings:\n{}", self.0.len(), self.0.join("\n"));
    }
}

/// Every route below the prefix, as the API describes itself.
async fn described(client: &Client) -> BTreeSet<(String, String)> {
    let document = client.send(client.request(Method::GET, "/openapi.json")).await.expect(200);
    let paths = document["paths"].as_object().unwrap();
    let mut routes = BTreeSet::new();
    for (path, item) in paths {
        // PATCH is another word for PUT
        for method in item.as_object().unwrap().keys().filter(|method| *method != "patch") {
            routes.insert((method.to_uppercase(), path.clone()));
        }
    }
    routes
}

fn below_prefix(routes: &BTreeSet<(String, String)>) -> impl Iterator<Item = (&str, &str)> {
    routes.iter().filter_map(|(method, path)| Some((method.as_str(), path.strip_prefix("/api/v1")?)))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_has_every_route_and_no_other() {
    let world = World::new().await;
    let api = world.api().await;
    let described = described(&world.client(&api)).await;
    let expected: BTreeSet<_> = ROUTES.iter().map(|route| (route.method, route.path)).collect();
    assert_eq!(expected.len(), ROUTES.len(), "a route is in the table twice");
    let there: BTreeSet<_> = below_prefix(&described).collect();
    let unknown: Vec<_> = there.difference(&expected).collect();
    assert!(unknown.is_empty(), "not in the table: {unknown:?}");
    let idle: Vec<_> = expected.difference(&there).collect();
    assert!(idle.is_empty(), "in the table only: {idle:?}");
    let outside: BTreeSet<_> =
        described.iter().map(|(_, path)| path.as_str()).filter(|path| !path.starts_with("/api/v1")).collect();
    assert_eq!(outside, OPEN.iter().copied().collect(), "outside of the prefix there is nothing to be let in to");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_without_credentials() {
    let company = Company::new().await;
    let (anonymous, mut findings) = (company.anonymous(), Findings::default());
    for route in ROUTES.iter().filter(|route| route.roles != Roles::Anyone) {
        let path = company.owner.fill(route);
        let answer = anonymous.send(probe(&anonymous, route, &path)).await;
        let right = answer.status.as_u16() == 401 && code(&answer) == "AUTHENTICATION_REQUIRED";
        findings.expect(right, "nobody", route, "401", &answer);
    }
    findings.none();
    company.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_is_let_in_to_what_it_may_and_to_nothing_else() {
    let company = Company::new().await;
    let mut findings = Findings::default();
    for role in ROLES {
        let person = company.with_role(role);
        // what ends the person's own place comes last, in the order of the table
        for route in ROUTES.iter().filter(|route| route.roles != Roles::Anyone) {
            let client = if route.path == "/auth/logout" { person.another_session().await } else { person.client() };
            let answer = client.send(probe(&client, route, &person.fill(route))).await;
            if route.roles.include(role) {
                findings.expect(let_in(&answer), role, route, "to be let in", &answer);
            } else {
                findings.expect(refused(&answer), role, route, "403", &answer);
            }
        }
    }
    findings.none();
    company.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_colleague_owns_is_shared_decided_about_or_not_there() {
    let company = Company::new().await;
    let mut findings = Findings::default();
    // an admin is last: the owner is no member any more then
    for role in ROLES.into_iter().rev() {
        let person = company.with_role(role);
        for route in ROUTES.iter().filter(|route| route.has_id() && route.roles != Roles::Anyone) {
            // a deletion that is let in leaves nothing to the next role
            let path =
                if route.method == "DELETE" { company.owner.fill_anew(route).await } else { company.owner.fill(route) };
            let client = person.client();
            // a body is looked at before it is asked whose the thing is
            let asked = matches!(route.thing, Thing::Own | Thing::Decided);
            let body = route.body.filter(|_| asked).map(|body| body(&company.owner));
            let request = probe(&client, route, &path);
            let answer = client.send(if let Some(body) = body { request.json(&body) } else { request }).await;
            match route.thing {
                _ if !route.roles.include(role) => findings.expect(refused(&answer), role, route, "403", &answer),
                Thing::Shared => findings.expect(let_in(&answer), role, route, "to be let in", &answer),
                Thing::Decided if ["admin", "manager"].contains(&role) => {
                    findings.expect(let_in(&answer), role, route, "to be let in", &answer);
                }
                Thing::Decided => findings.expect(refused(&answer), role, route, "403", &answer),
                Thing::Own | Thing::Nothing => {
                    let right = code(&answer) == "RESOURCE_NOT_FOUND";
                    findings.expect(right, role, route, "404", &answer);
                }
            }
        }
    }
    findings.none();
    company.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_another_organization_does_not_exist() {
    let company = Company::new().await;
    let (foreign, mut findings) = (company.foreign.client(), Findings::default());
    for owner in [&company.owner, company.with_role("admin")] {
        for route in ROUTES {
            let body = route.body.map(|body| body(owner));
            // ids are in the path, or in the body
            if route.roles == Roles::Anyone || !(route.has_id() || route.names_in_body) {
                continue;
            }
            let request = foreign.request(route.method(), &format!("/api/v1{}", owner.fill(route)));
            let answer = foreign.send(match body {
                Some(body) => request.json(&body),
                None => request,
            });
            let answer = answer.await;
            let right = answer.status.as_u16() == 404 && code(&answer) == "RESOURCE_NOT_FOUND";
            findings.expect(right, "foreign", route, "404", &answer);
        }
    }
    let secrets = company.everything();
    for route in ROUTES.iter().filter(|route| route.method == "GET" && !route.has_id() && route.path != "/ai/stream") {
        let answer = foreign.send(probe(&foreign, route, route.path)).await;
        findings.expect(let_in(&answer), "foreign", route, "to be let in", &answer);
        for secret in secrets.iter().filter(|secret| answer.text.contains(*secret)) {
            findings.0.push(format!("foreign: {route} shows {secret}"));
        }
    }
    findings.none();
    company.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_what_its_permission_grants_and_never_more_than_its_owner_may() {
    let company = Company::new().await;
    let mut findings = Findings::default();
    let admin = company.with_role("admin");
    for permission in table::PERMISSIONS {
        let key = admin.key(&[permission]).await;
        for route in ROUTES.iter().filter(|route| route.roles != Roles::Anyone) {
            let granted = match route.key {
                Key::None => false,
                Key::Any => true,
                Key::With(needed) => *permission == "*" || *permission == needed,
            };
            // what a key may delete is deleted once, by the key of all
            if granted && route.method == "DELETE" && *permission != "*" {
                continue;
            }
            let client = company.anonymous();
            let request = probe(&client, route, &admin.fill(route)).header("x-api-key", &key);
            let answer = client.send(request).await;
            if granted {
                findings.expect(let_in(&answer), permission, route, "to be let in", &answer);
            } else {
                findings.expect(refused(&answer), permission, route, "403", &answer);
            }
        }
    }
    let viewer = company.with_role("viewer");
    for route in ROUTES.iter().filter(|route| route.roles != Roles::Anyone && !route.roles.include("viewer")) {
        let client = company.anonymous();
        let request = probe(&client, route, &viewer.fill(route)).header("x-api-key", &viewer.early_key);
        let answer = client.send(request).await;
        findings.expect(refused(&answer), "key of a viewer", route, "403", &answer);
    }
    let unknown: Value = json!({ "name": "k", "permissions": ["everything:write"] });
    assert_eq!(admin.member.client.post("/api-keys", unknown).await.error(400), "VALIDATION_ERROR");
    findings.none();
    company.close().await;
}

/// Kept beside the walks: they need a person for each role.
impl Company {
    fn with_role(&self, role: &str) -> &Person {
        &self.staff[ROLES.iter().position(|known| *known == role).unwrap()]
    }
}
