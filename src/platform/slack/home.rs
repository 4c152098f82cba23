//! Who the bot is: asked once, before the first event is read, because what mentions the bot is told apart by its ID.

use serde::Deserialize;
use tokio::sync::OnceCell;

use super::NOTHING;
use super::api::{Api, Arguments, CallError, Reply};
use super::inbound::Home;
use crate::model::PlatformKind;
use crate::platform::verdict::not_understood;

/// What is read of `auth.test`.
#[derive(Debug, Deserialize)]
struct Who {
    user_id: Option<String>,
    team_id: Option<String>,
    enterprise_id: Option<String>,
    #[serde(default)]
    is_enterprise_install: Option<bool>,
}

/// Asks once and remembers.
#[derive(Debug)]
pub(super) struct Finder {
    api: Api,
    home: OnceCell<Home>,
}

impl Finder {
    /// `api` has the bot token.
    pub(super) fn new(api: Api) -> Self {
        Self { api, home: OnceCell::new() }
    }

    /// Knows already, and asks nobody.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn knowing(api: Api, home: Home) -> Self {
        Self { api, home: OnceCell::new_with(Some(home)) }
    }

    /// Who the bot is.
    pub(super) async fn find(&self) -> Result<&Home, CallError> {
        self.home.get_or_try_init(|| self.ask()).await
    }

    async fn ask(&self) -> Result<Home, CallError> {
        let Reply { value, .. } =
            self.api.call::<Who>("auth.test", Arguments::Form(&NOTHING)).await?;
        let Some(user) = value.user_id.filter(|user| !user.is_empty()) else {
            return Err(CallError::Failed(not_understood(PlatformKind::Slack)));
        };
        Ok(Home {
            user,
            team: value.team_id,
            enterprise: value.enterprise_id,
            org_wide: value.is_enterprise_install.unwrap_or(false),
        })
    }
}
