//! The settings of a deploy hook: two keys among the free-form metadata of a project, or settings of an organization.

use serde_json::Value;

/// The key of its address.
pub const DEPLOY_HOOK_URL: &str = "deploy_hook_url";

/// The key of what its calls are signed with. No answer shows it.
pub const DEPLOY_HOOK_SECRET: &str = "deploy_hook_secret";

/// Metadata or settings as they are shown.
pub fn without_secret(mut settings: Value) -> Value {
    if let Value::Object(settings) = &mut settings {
        settings.remove(DEPLOY_HOOK_SECRET);
    }
    settings
}

/// Takes the stored secret over into settings that replace the stored ones, if they name the same address and no secret: who
/// sends back what was shown changes nothing.
pub fn keep_secret(new: &mut Value, stored: &Value) {
    if let Value::Object(new) = new
        && let Some(secret) = stored.get(DEPLOY_HOOK_SECRET)
        && !new.contains_key(DEPLOY_HOOK_SECRET)
        && new.get(DEPLOY_HOOK_URL) == stored.get(DEPLOY_HOOK_URL)
    {
        new.insert(DEPLOY_HOOK_SECRET.to_owned(), secret.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_sends_back_what_was_shown_changes_nothing() {
        let stored = json!({ "deploy_hook_url": "https://a", "deploy_hook_secret": "s", "budget": 3 });
        let mut shown = without_secret(stored.clone());
        assert_eq!(shown, json!({ "deploy_hook_url": "https://a", "budget": 3 }));
        keep_secret(&mut shown, &stored);
        assert_eq!(shown, stored);
    }

    #[test]
    fn a_secret_belongs_to_its_address() {
        let stored = json!({ "deploy_hook_url": "https://a", "deploy_hook_secret": "s" });
        for new in [
            json!({ "deploy_hook_url": "https://b" }),
            json!({}),
            json!({ "deploy_hook_url": "https://a", "deploy_hook_secret": null }),
            json!([]),
        ] {
            let mut kept = new.clone();
            keep_secret(&mut kept, &stored);
            assert_eq!(kept, new);
        }
    }
}
