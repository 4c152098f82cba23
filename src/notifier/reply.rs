//! What the bot says: the same way out as everything else, to whoever spoke to it.

use base64::Engine as _;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::refused::refusal;
use super::{Accepted, MOST_TEXT_CHARACTERS, Notifier, Rendered, SubmitError, steps};
use crate::guard::Findings;
use crate::model::audit::{Act, Entry};
use crate::model::{
    Button, CardPart, ClientName, Delivery, DeliveryId, Failure, FilePart, Invitation, Mentions,
    MessageRef, Part, Placement, Reason, Receipt, Visit,
};
use crate::platform::{Platform, Signal};
use crate::policy::{Rate, Route, Terms};
use crate::render;

/// The client that the bot is, in the store and the log.
pub const BOT: &str = "bot";

/// One piece of what the bot says. Texts are Markdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Text.
    Text(String),
    /// Text with buttons under its last part.
    Card {
        /// The text.
        text: String,
        /// The buttons: at most 5 rows of at most 5.
        rows: Vec<Vec<Button>>,
    },
    /// Text that is too long to be shown, as a file of Markdown.
    Attached {
        /// The file's name.
        name: String,
        /// The text.
        text: String,
    },
    /// A file.
    File {
        /// Its name.
        name: String,
        /// Its media type.
        mime: String,
        /// What is in it.
        bytes: Vec<u8>,
    },
}

/// What the bot says to somebody who spoke to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Whom it answers.
    pub visit: Visit,
    /// Where in that channel.
    pub placement: Placement,
    /// What it says.
    pub content: Vec<Content>,
    /// One of the bot's own messages that turns into the first piece.
    pub replaces: Option<MessageRef>,
    /// The bot's name for this reply: the same key sends it once.
    pub key: String,
}

/// What is shown while a turn goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Show {
    /// The bot is at work.
    Typing,
    /// One of its messages says this from now on: Markdown, cut to one part.
    Text {
        /// Which message.
        message: MessageRef,
        /// What it says.
        text: String,
        /// The buttons under it.
        rows: Vec<Vec<Button>>,
    },
}

impl Notifier {
    /// Says something to somebody who may talk to the agent, and waits a bounded time for its delivery.
    ///
    /// # Errors
    /// When it is not accepted; then nothing is stored and nothing will be sent.
    pub async fn reply(&self, reply: Reply) -> Result<Receipt, SubmitError> {
        let invitation = Invitation::Answer { visit: reply.visit };
        self.answer(invitation, reply.placement, reply.content, reply.replaces, reply.key).await
    }

    /// Tells somebody who may not talk to the agent their own ID, and nothing else.
    ///
    /// # Errors
    /// As for [`Notifier::reply`].
    pub async fn turn_away(
        &self,
        visit: Visit,
        placement: Placement,
        key: String,
    ) -> Result<Receipt, SubmitError> {
        let text = format!(
            "You may not use this bot. Your {} user ID is `{}`; give it to whoever runs the bot.",
            visit.platform().title(),
            visit.person.id
        );
        let content = vec![Content::Text(text)];
        self.answer(Invitation::TurnAway { visit }, placement, content, None, key).await
    }

    /// Shows something for the moment; lost if the platform does not take it now.
    ///
    /// # Errors
    /// Classified, so that the bot can pause where the platform asks for it.
    pub async fn show(
        &self,
        visit: &Visit,
        placement: &Placement,
        show: Show,
    ) -> Result<(), Failure> {
        let shown = self.platform(visit.platform()).and_then(|platform| {
            Ok((platform, self.shown(platform.as_ref(), visit, placement, show)?))
        });
        let (platform, Shown { route, placement, signal }) = match shown {
            Ok((platform, Some(shown))) => (platform, shown),
            Ok((_, None)) => return Ok(()),
            Err(error) => {
                // What stands in the audit trail is said there, however long the turn goes on.
                if refusal(&error).is_some() {
                    tracing::debug!(platform = %visit.platform(), %error, "what goes on was not shown");
                } else {
                    tracing::warn!(platform = %visit.platform(), %error, "what goes on was not shown");
                }
                let asked = Entry {
                    client: Some(ClientName::new(BOT)),
                    ..Entry::visit(Act::Denied, visit)
                };
                // It is written all the same, and nobody who pressed a button waits for the store.
                drop(self.refused(asked, &error));
                let reason = match error {
                    SubmitError::Render(_) => Reason::Rejected,
                    _ => Reason::Denied,
                };
                return Err(Failure::give_up(reason, error.to_string()));
            }
        };
        let shown = platform.signal(&route, &placement, &signal).await;
        shown.inspect_err(|failure| self.metrics.slowed(platform.kind(), failure))
    }

    /// What is shown, and where, if there is anything to show.
    fn shown(
        &self,
        platform: &dyn Platform,
        visit: &Visit,
        placement: &Placement,
        show: Show,
    ) -> Result<Option<Shown>, SubmitError> {
        let invitation = Invitation::Answer { visit: visit.clone() };
        let route = self.rules().reply(&ClientName::new(BOT), &invitation)?;
        let (message, text, rows) = match show {
            Show::Typing => {
                let (placement, signal) = (placement.clone(), Signal::Typing);
                return Ok(Some(Shown { route, placement, signal }));
            }
            Show::Text { message, text, rows } => (message, text, rows),
        };
        let card = vec![Content::Card { text, rows }];
        let (parts, _) = self.pieces(platform, card, route.terms())?;
        let Some(part) = parts.into_iter().next() else { return Ok(None) };
        let placement = Placement { thread: message.thread, ..Placement::default() };
        let signal = Signal::Edit { message_id: message.id, part };
        Ok(Some(Shown { route, placement, signal }))
    }

    async fn answer(
        &self,
        invitation: Invitation,
        placement: Placement,
        content: Vec<Content>,
        replaces: Option<MessageRef>,
        key: String,
    ) -> Result<Receipt, SubmitError> {
        let asked = Entry {
            client: Some(ClientName::new(BOT)),
            ..Entry::visit(Act::Denied, invitation.visit())
        };
        let answer = self.answer_it(invitation, placement, content, replaces, key).await;
        // That it was said before is no refusal.
        if let Err(error) = &answer
            && *error != SubmitError::KeyReused
        {
            self.refused(asked, error).await;
        }
        answer
    }

    async fn answer_it(
        &self,
        invitation: Invitation,
        placement: Placement,
        content: Vec<Content>,
        replaces: Option<MessageRef>,
        key: String,
    ) -> Result<Receipt, SubmitError> {
        let give_up = Instant::now() + self.settings.wait;
        let client = ClientName::new(BOT);
        let platform = self.platform(invitation.visit().platform())?;
        // Refused before anything is stored; the worker asks again.
        let policy = self.rules();
        let route = policy.reply(&client, &invitation)?;
        let hash = digest(&placement, &content);
        let (parts, findings) = self.pieces(platform.as_ref(), content, route.terms())?;
        let id = DeliveryId::new(self.clock.now());
        let steps = steps::reply(id, parts, replaces);
        let channel = invitation.visit().channel.clone();
        let delivery = Delivery {
            placement,
            warnings: findings.warnings.clone(),
            invitation: Some(invitation),
            ..self.delivery(id, &client, channel, steps)
        };
        let accepted = Accepted {
            delivery,
            idempotency_key: Some(key),
            content_hash: hash,
            findings,
            rate: Rate::default(),
        };
        self.accept(platform.as_ref(), accepted, give_up).await
    }

    /// What is said, as parts that may leave.
    fn pieces(
        &self,
        platform: &dyn Platform,
        content: Vec<Content>,
        terms: &Terms,
    ) -> Result<(Vec<Part>, Findings), SubmitError> {
        let (mut all, mut findings) = (Vec::new(), Findings::default());
        for piece in content {
            let (text, rows) = match piece {
                Content::Text(text) => (text, Vec::new()),
                Content::Card { text, rows } => (text, rows),
                Content::Attached { name, text } => {
                    // It is opened somewhere: hidden characters and links mean there what they mean here. Nobody is called.
                    let mut document = render::parse(&text);
                    let quiet = Terms { mentions: Mentions::NONE, ..terms.clone() };
                    findings.add(self.guard.document(&mut document, platform.kind(), &quiet)?);
                    let bytes = render::whole(&document).into_bytes();
                    let file = file(name, "text/markdown".to_owned(), &bytes);
                    let mut file = [Part::File(FilePart { held_to: Some(String::new()), ..file })];
                    findings.add(self.guard.parts(&mut file, platform.kind(), terms)?);
                    all.extend(file);
                    continue;
                }
                Content::File { name, mime, bytes } => {
                    let mut file = [Part::File(file(name, mime, &bytes))];
                    findings.add(self.guard.parts(&mut file, platform.kind(), terms)?);
                    all.extend(file);
                    continue;
                }
            };
            let Rendered { mut parts, findings: found, .. } =
                self.rendered(platform, &text, MOST_TEXT_CHARACTERS, terms)?;
            findings.add(found);
            if let Some(last) = parts.pop() {
                let mut last = [with_buttons(last, rows)];
                findings.add(self.guard.parts(&mut last, platform.kind(), terms)?);
                parts.extend(last);
            }
            all.append(&mut parts);
        }
        Ok((all, findings))
    }
}

/// What goes directly: the latest wins.
struct Shown {
    route: Route,
    placement: Placement,
    signal: Signal,
}

fn file(name: String, mime: String, bytes: &[u8]) -> FilePart {
    let base64 = base64::engine::general_purpose::STANDARD.encode(bytes);
    FilePart { name, mime, base64, held_to: None }
}

fn with_buttons(part: Part, rows: Vec<Vec<Button>>) -> Part {
    match part {
        Part::Text(text) if !rows.is_empty() => Part::Card(CardPart { text, rows }),
        part => part,
    }
}

/// What makes two replies the same, whatever the rules make of them.
fn digest(placement: &Placement, content: &[Content]) -> String {
    let mut hash = Sha256::new();
    let mut put = |field: &[u8]| {
        hash.update(field.len().to_le_bytes());
        hash.update(field);
    };
    put(serde_json::to_string(placement).unwrap_or_default().as_bytes());
    for piece in content {
        match piece {
            Content::Text(text) => put(text.as_bytes()),
            Content::Card { text, rows } => {
                put(text.as_bytes());
                put(serde_json::to_string(rows).unwrap_or_default().as_bytes());
            }
            Content::Attached { name, text } => {
                put(name.as_bytes());
                put(text.as_bytes());
            }
            Content::File { name, mime, bytes } => {
                put(name.as_bytes());
                put(mime.as_bytes());
                put(bytes);
            }
        }
    }
    format!("{:x}", hash.finalize())
}
