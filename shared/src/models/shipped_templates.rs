//! The templates that ship with the system: files of the folder `templates`, which are part of the binary. They are
//! written to the table right after the migrations.

use crate::schema::templates;
use anyhow::{Context, Result, ensure};
use diesel::{
    QueryResult,
    prelude::*,
    sql_types::{Array, Jsonb, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// The names of the files and what is in them. A new one is a file and a line here.
const FILES: &[(&str, &str)] = &[
    ("api-service", include_str!("../../../templates/api-service.toml")),
    ("data-analysis", include_str!("../../../templates/data-analysis.toml")),
    ("event-plan", include_str!("../../../templates/event-plan.toml")),
    ("marketing-campaign", include_str!("../../../templates/marketing-campaign.toml")),
    ("mobile-app", include_str!("../../../templates/mobile-app.toml")),
    ("research-report", include_str!("../../../templates/research-report.toml")),
    ("web-application-starter", include_str!("../../../templates/web-application-starter.toml")),
];

/// What the ids are derived in: a template keeps its id, whatever else of it changes.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f1d_0a3c_52b8_5b0e_9c1e_7d0b_41c6_a2f4);

/// A template that ships with the system.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shipped {
    name: String,
    description: String,
    category: String,
    phases: Vec<String>,
    #[serde(default)]
    integrations: Vec<String>,
    #[serde(default)]
    settings: Map<String, Value>,
}

impl Shipped {
    fn read(text: &str) -> Result<Self> {
        let read: Self = toml::from_str(text)?;
        ensure!((1..=20).contains(&read.phases.len()), "a template has 1 to 20 phases");
        let fits = |phase: &String| !phase.trim().is_empty() && phase.chars().count() <= 100;
        ensure!(read.phases.iter().all(fits), "a phase has 1 to 100 characters");
        Ok(read)
    }

    fn data(&self) -> Value {
        json!({ "phases": self.phases, "integrations": self.integrations, "settings": self.settings })
    }
}

/// Brings the table up to date with the files: what is new or changed is written, what is not shipped any more goes.
/// How often a template was used stays.
pub(crate) async fn ship(conn: &mut AsyncPgConnection) -> Result<()> {
    let read = |(name, text): &(&str, &str)| {
        let shipped = Shipped::read(text).with_context(|| format!("the template {name} cannot be read"))?;
        Ok((Uuid::new_v5(&NAMESPACE, name.as_bytes()), shipped))
    };
    let shipped = FILES.iter().map(read).collect::<Result<Vec<_>>>()?;
    conn.transaction(async |conn| write(conn, &shipped).await).await.context("the templates were not written")
}

async fn write(conn: &mut AsyncPgConnection, shipped: &[(Uuid, Shipped)]) -> QueryResult<()> {
    let ids: Vec<Uuid> = shipped.iter().map(|(id, _)| *id).collect();
    let texts = |text: fn(&Shipped) -> &str| shipped.iter().map(|(_, one)| text(one)).collect::<Vec<_>>();
    diesel::sql_query(
        "INSERT INTO templates AS t (id, name, description, category, is_public, template_data) \
         SELECT id, name, description, category, TRUE, data \
         FROM UNNEST($1, $2, $3, $4, $5) AS shipped (id, name, description, category, data) \
         ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name, description = EXCLUDED.description, \
             category = EXCLUDED.category, template_data = EXCLUDED.template_data, updated_at = now() \
         WHERE (t.name, t.description, t.category, t.template_data) IS DISTINCT FROM \
             (EXCLUDED.name, EXCLUDED.description, EXCLUDED.category, EXCLUDED.template_data)",
    )
    .bind::<Array<SqlUuid>, _>(&ids)
    .bind::<Array<Text>, _>(texts(|one| &one.name))
    .bind::<Array<Text>, _>(texts(|one| &one.description))
    .bind::<Array<Text>, _>(texts(|one| &one.category))
    .bind::<Array<Jsonb>, _>(shipped.iter().map(|(_, one)| one.data()).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    let gone = templates::table.filter(templates::organization_id.is_null().and(templates::id.ne_all(ids)));
    diesel::delete(gone).execute(conn).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;
    use std::{collections::BTreeSet, fs, path::Path};

    #[test]
    fn every_file_of_the_folder_ships_and_can_be_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../templates");
        let there: BTreeSet<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        let shipped: BTreeSet<String> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(there, shipped);
        let mut names = BTreeSet::new();
        for (file, text) in FILES {
            let template = Shipped::read(text).unwrap();
            assert!(!template.description.is_empty() && template.category != "custom", "{file}");
            assert!(names.insert(template.name), "{file}: another one has this name");
            for word in &template.integrations {
                assert!(["git", "docker"].contains(&word.as_str()), "{file}: nobody knows the integration {word}");
            }
            for key in template.settings.keys() {
                let known = ["ai_model", "max_tokens", "temperature", "integration_enabled"];
                assert!(known.contains(&key.as_str()), "{file}: nobody reads the setting {key}");
            }
        }
    }

    #[test]
    fn the_starter_of_web_applications_is_among_them() {
        let (_, text) = FILES.iter().find(|(name, _)| *name == "web-application-starter").unwrap();
        let starter = Shipped::read(text).unwrap();
        assert_eq!((starter.name.as_str(), starter.category.as_str()), ("Web Application Starter", "web-development"));
    }

    #[test]
    fn a_file_that_makes_no_sense_is_refused() {
        let whole = "name = \"a\"\ndescription = \"b\"\ncategory = \"c\"\n";
        assert!(Shipped::read(&format!("{whole}phases = [\"one\"]")).is_ok());
        for rest in ["phases = []", "phases = [\" \"]", "phases = [1]", "", "phases = [\"one\"]\ncolour = 1"] {
            assert!(Shipped::read(&format!("{whole}{rest}")).is_err(), "{rest:?}");
        }
    }
}
