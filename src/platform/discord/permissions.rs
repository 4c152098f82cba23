//! What the bot may do in a channel: <https://docs.discord.com/developers/topics/permissions#permission-overwrites>.

use std::collections::BTreeMap;

use serde_json::Value;

use super::events::{list, word};

/// One permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Permission {
    pub(super) name: &'static str,
    pub(super) bit: u64,
}

const fn permission(name: &'static str, place: u32) -> Permission {
    Permission { name, bit: 1 << place }
}

pub(super) const VIEW: Permission = permission("View Channels", 10);
pub(super) const SEND: Permission = permission("Send Messages", 11);
pub(super) const ATTACH: Permission = permission("Attach Files", 15);
pub(super) const HISTORY: Permission = permission("Read Message History", 16);
pub(super) const OPEN_THREADS: Permission = permission("Create Public Threads", 35);
pub(super) const SEND_IN_THREADS: Permission = permission("Send Messages in Threads", 38);

/// What an invitation asks for.
pub(super) const INVITED: [Permission; 6] =
    [VIEW, SEND, ATTACH, HISTORY, OPEN_THREADS, SEND_IN_THREADS];

/// Whoever has it may do everything, whatever a channel says.
const ADMINISTRATOR: u64 = 1 << 3;

/// What the bot is in one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    guild: String,
    me: String,
    owner: bool,
    /// Its roles, with `@everyone`, whose ID is the server's.
    roles: BTreeMap<String, u64>,
}

impl Membership {
    /// Reads it from a guild and a member; `None` where they do not say.
    pub(super) fn read(guild: &Value, member: &Value, me: &str) -> Option<Self> {
        let id = word(guild, "id")?;
        let mine: Vec<&str> = list(member, "roles").filter_map(Value::as_str).collect();
        let roles = list(guild, "roles").filter_map(|role| {
            let role_id = word(role, "id")?;
            let held = role_id == id || mine.contains(&role_id);
            held.then_some((role_id.to_owned(), bits(role, "permissions")))
        });
        let roles: BTreeMap<_, _> = roles.collect();
        roles.contains_key(id).then(|| Self {
            guild: id.to_owned(),
            me: me.to_owned(),
            owner: word(guild, "owner_id") == Some(me),
            roles,
        })
    }

    /// What it may do in a channel with these overwrites.
    pub(super) fn may(&self, overwrites: &Value) -> u64 {
        let base = self.roles.values().fold(0, |all, role| all | role);
        if self.owner || base & ADMINISTRATOR != 0 {
            return u64::MAX;
        }
        // First everybody's, then those of its roles together, then its own.
        let everyone = |id: &str| id == self.guild;
        let role = |id: &str| id != self.guild && self.roles.contains_key(id);
        let own = |id: &str| id == self.me;
        let stages: [&dyn Fn(&str) -> bool; 3] = [&everyone, &role, &own];
        let may = stages.iter().fold(base, |may, applies| {
            let overwrites = overwrites.as_array().into_iter().flatten();
            let here = overwrites.filter(|it| word(it, "id").is_some_and(applies));
            let (deny, allow) = here.fold((0, 0), |(deny, allow), it| {
                (deny | bits(it, "deny"), allow | bits(it, "allow"))
            });
            may & !deny | allow
        });
        // Who cannot see a channel can do nothing in it.
        if may & VIEW.bit == 0 { 0 } else { may }
    }
}

/// Permissions are numbers that stand in strings.
fn bits(holder: &Value, key: &str) -> u64 {
    word(holder, key).and_then(|bits| bits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn membership(everyone: u64, role: u64, owner: &str) -> Membership {
        let guild = json!({ "id": "1", "owner_id": owner, "roles": [
            { "id": "1", "permissions": everyone.to_string() },
            { "id": "2", "permissions": role.to_string() },
            { "id": "3", "permissions": u64::MAX.to_string() },
        ]});
        Membership::read(&guild, &json!({ "roles": ["2"] }), "9").unwrap()
    }

    fn overwrite(id: &str, allow: u64, deny: u64) -> Value {
        json!({ "id": id, "type": 0, "allow": allow.to_string(), "deny": deny.to_string() })
    }

    #[test]
    fn the_more_particular_wins() {
        let (view, send) = (VIEW.bit, SEND.bit);
        let bot = membership(view, send, "8");
        assert_eq!(bot.may(&json!(null)), view | send, "others' roles do not count");
        let muted = overwrite("1", 0, send);
        assert_eq!(bot.may(&json!([muted])), view);
        let role = overwrite("2", send, 0);
        assert_eq!(bot.may(&json!([role, muted])), view | send, "whatever the order");
        let own = overwrite("9", 0, send);
        assert_eq!(bot.may(&json!([own, role])), view);
        assert_eq!(bot.may(&json!([overwrite("3", 0, send)])), view | send, "not its role");
    }

    #[test]
    fn who_cannot_see_may_nothing_and_an_administrator_everything() {
        let hidden = json!([overwrite("1", 0, VIEW.bit)]);
        assert_eq!(membership(VIEW.bit, SEND.bit, "8").may(&hidden), 0);
        assert_eq!(membership(VIEW.bit, ADMINISTRATOR, "8").may(&hidden), u64::MAX);
        assert_eq!(membership(0, 0, "9").may(&hidden), u64::MAX, "the owner");
    }

    #[test]
    fn what_does_not_say_is_not_guessed() {
        let nothing = json!({});
        assert_eq!(Membership::read(&nothing, &nothing, "9"), None);
        assert_eq!(Membership::read(&json!({ "id": "1", "roles": null }), &nothing, "9"), None);
    }
}
