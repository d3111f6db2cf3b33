//! Who is in which room, and telling the others.

use super::{Due, Hall, Joined, ROOMS};
use crate::{live::Live, socket_io::run::Told};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use shared::{events::Notice, models::LivePlace};
use socketioxide::socket::Sid;
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;
use uuid::Uuid;

impl Hall {
    pub(super) fn join(&mut self, sid: Sid, room: LivePlace, since: DateTime<Utc>) -> Joined {
        let Some(member) = self.members.get_mut(&sid) else { return Joined::Yes };
        if member.rooms.contains_key(&room) {
            return Joined::Yes;
        }
        if member.rooms.len() >= ROOMS {
            return Joined::TooMany;
        }
        member.rooms.insert(room, since);
        for (id, _) in self.runs.iter().filter(|(_, run)| run.place == room && !run.is_over()) {
            member.begin(*id);
        }
        let mut data = of(member.user_id, room);
        data["user_name"] = json!(member.name);
        self.tell_room("user:joined", room, sid, data);
        Joined::Yes
    }

    pub(super) fn leave(&mut self, sid: Sid, room: LivePlace) {
        if let Some(member) = self.members.get_mut(&sid)
            && member.rooms.remove(&room).is_some()
        {
            let data = of(member.user_id, room);
            self.tell_room("user:left", room, sid, data);
        }
    }

    /// Tells the others in a room, here and elsewhere.
    pub(super) fn tell_room(&mut self, name: &'static str, room: LivePlace, except: Sid, data: Value) {
        let told = Arc::new(Told { name: name.into(), data: data.clone() });
        for (_, member) in self.members.iter_mut().filter(|(sid, _)| **sid != except) {
            if member.rooms.contains_key(&room) {
                member.push(&told);
            }
        }
        let mut data = data;
        data["from"] = json!(self.here);
        // were too many waiting, Redis would be away: nobody elsewhere could hear it
        let _ = self.others.try_send(Notice { r#type: name.to_owned(), data });
    }

    /// Hears what is said to the whole organization.
    pub(super) fn hear(&mut self, notice: Result<Live, RecvError>) -> Due {
        let notice = match notice {
            Ok(Live::Message(message)) => serde_json::from_slice::<Notice>(&message).ok(),
            Ok(Live::Resumed) | Err(RecvError::Lagged(_)) => {
                self.halls.look_again();
                None
            }
            // with the hub itself: the process stops
            Err(RecvError::Closed) => None,
        };
        let Some(Notice { r#type: name, mut data }) = notice else { return Due::Nobody };
        let notice = Notice { r#type: name.clone(), data: data.clone() };
        if let Some(run) = notice.accepted_run(self.organization_id) {
            self.follow(&run);
        } else if name.starts_with("pipeline:") || name.starts_with("project:") {
            let told = Arc::new(Told { name: name.into(), data });
            self.members.values_mut().for_each(|member| member.push(&told));
        } else if name.starts_with("user:")
            && let Some(room) = room_of(&data)
            && data["from"] != json!(self.here)
        {
            if let Value::Object(fields) = &mut data {
                fields.remove("from");
            }
            let told = Arc::new(Told { name: name.into(), data });
            let there = self.members.values_mut().filter(|member| member.rooms.contains_key(&room));
            there.for_each(|member| member.push(&told));
        }
        Due::Everybody
    }
}

/// Who is in a room, or was.
pub(super) fn of(user_id: Uuid, room: LivePlace) -> Value {
    match room {
        LivePlace::Pipeline(id) => json!({ "user_id": user_id, "pipeline_id": id }),
        LivePlace::Project(id) => json!({ "user_id": user_id, "project_id": id }),
    }
}

/// The room that somebody is said to have come into, or left.
fn room_of(data: &Value) -> Option<LivePlace> {
    let id = |key: &str| data[key].as_str()?.parse().ok();
    id("pipeline_id").map(LivePlace::Pipeline).or_else(|| id("project_id").map(LivePlace::Project))
}
