//! The page that an invitation's mail leads to. It asks for nothing and runs nothing: it says who invites, into what, and
//! what to send.

use crate::{alias::PREFIX, auth::tokens, error::ApiError, origin::public_base, state::State};
use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder, get,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    web,
};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::models::{Invitation, Organization, User};
use utoipa::IntoParams;

const NO_INVITATION: &str = include_str!("../../assets/no-invitation.html");

/// What the address says.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Link {
    /// The token of the invitation.
    token: Option<String>,
}

/// What an invitation is about, for a person.
#[utoipa::path(
    tag = "organizations",
    params(Link),
    responses(
        (status = 200, description = "A page that says how to accept", content_type = "text/html", body = String),
        (status = 404, description = "A page that says that there is nothing to accept", content_type = "text/html", body = String),
    ),
)]
#[get("/invitations/accept")]
pub(crate) async fn show_invitation(
    state: web::Data<State>,
    request: HttpRequest,
    link: web::Query<Link>,
) -> Result<HttpResponse, ApiError> {
    let token = link.into_inner().token.unwrap_or_default();
    let mut conn = state.conn().await?;
    let Some(invitation) = Invitation::find_open(&mut conn, &tokens::hash(&token)).await? else {
        return Ok(page(HttpResponse::NotFound(), NO_INVITATION));
    };
    let organization = Organization::get(&mut conn, invitation.organization_id).await?;
    let inviter = match invitation.invited_by {
        Some(id) => User::get(&mut conn, id).await?.full_name,
        None => "Somebody".to_owned(),
    };
    drop(conn);
    let base = public_base(&request);
    let accept = json!({ "token": token });
    let register = json!({ "email": invitation.email, "password": "…", "invitation_token": token });
    let html = format!(
        include_str!("../../assets/invitation.html"),
        organization = escaped(&organization.name),
        inviter = escaped(&inviter),
        email = escaped(&invitation.email),
        role = invitation.role,
        expires_at = invitation.expires_at.format("%-d %B %Y, %H:%M UTC"),
        accept = escaped(&curl(&base, "/invitations/accept", "-H 'authorization: Bearer …' ", &accept)),
        register = escaped(&curl(&base, "/auth/register", "", &register)),
    );
    Ok(page(HttpResponse::Ok(), html))
}

/// The command that sends a body; whatever is in it stays within its quotes.
fn curl(base: &str, path: &str, headers: &str, body: &Value) -> String {
    let body = body.to_string().replace('\'', r"'\''");
    format!("curl {base}{PREFIX}{path} {headers}\\\n  -H 'content-type: application/json' \\\n  -d '{body}'")
}

/// Text between tags.
fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, c| {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
        escaped
    })
}

fn page(mut response: HttpResponseBuilder, html: impl Into<String>) -> HttpResponse {
    response
        .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
        // it holds the token
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(html.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobodys_name_becomes_a_tag_or_a_command() {
        assert_eq!(escaped("<b onclick='x'>&\"</b>"), "&lt;b onclick=&#39;x&#39;&gt;&amp;&quot;&lt;/b&gt;");
        let command = curl("http://host", "/x", "", &json!({ "email": "o'; rm -rf ~ #@example.com" }));
        assert!(command.ends_with(r#"-d '{"email":"o'\''; rm -rf ~ #@example.com"}'"#), "{command}");
    }
}
