//! Herald gives kagent agents a voice in Slack, Discord and Telegram.
//!
//! This page is the architecture: who is who, how a message travels, what must never break, and where things stand.
//!
//! # The cast
//!
//! | word | what it is |
//! |---|---|
//! | [platform](platform::Platform) | Slack, Discord or Telegram: one folder each, one trait between them and everything else |
//! | [channel](model::ChannelId) | a place a message can go: `slack:C0123456789`, `discord:112233445566778899`, `telegram:-1001234567890` |
//! | [client](model::ClientName) | who calls, known from its token or its JWT; `stdio`, `shell` and `anonymous` where there is none |
//! | [gate](mcp::Gate) | who comes in at `/mcp`, and as which client; its [door](mcp::Door) is replaced while Herald serves |
//! | [policy](policy::Policy) | what a client may do; the [rulebook](policy::Rulebook) holds the one that counts right now |
//! | [terms](policy::Terms) | what the guard lets pass, for one client in one channel |
//! | [guard](guard::Guard) | looks at everything that leaves: hidden characters, secrets, links, mentions |
//! | [route](policy::Route) | permission, now, for one client to speak in one channel. Only `policy` can make one, and nothing is sent without one |
//! | [submission](model::Submission) | what a caller asks to have sent |
//! | [document](render::Document) | a text, understood: free of any platform's dialect |
//! | [part](model::Part) | one rendered piece of a submission, in the platform's dialect and within its limit |
//! | [delivery](model::Delivery) | the durable record of a submission: its steps, a cursor, its state |
//! | [step](model::Step) | one request to the platform: send a part, open a thread, edit, delete |
//! | lane | the ordered queue of one channel; holds lease, epoch, pace and the time it has to wait for |
//! | [claim](store::Claim) | the head of a lane, held by one worker until it is recorded or the lease runs out |
//! | [failure](model::Failure) | why a send did not work, and what may be done: classified once, at the platform's edge |
//! | [verdict](store::Verdict) | what an attempt says about its bot: it works, it fails, its secret is refused. [`store`] counts: the breaker |
//! | [doubt](model::Doubt) | an attempt whose answer was lost, and how it was settled whether it had arrived |
//! | [event](model::Event) | what a platform told: somebody wrote, used a command, pressed a button |
//! | [visit](model::Visit) | who spoke where: what a reply follows |
//! | [listener](platform::listener::Listener) | takes a platform's events; [inbox](platform::listener::Inbox): stores them before they are acknowledged |
//! | [finding](platform::finding::Finding) | what `herald check` finds out about one thing, and the fix |
//! | conversation | one thread or direct chat, bound to one context of one agent; held by one process at a time |
//! | turn | one request to the agent, and its answer; one at a time in a conversation |
//! | pause | a turn that waits for a person: an approval, questions, a reply |
//! | signal | an edit of the bot's own placeholder, or typing: the latest wins, nothing is stored |
//! | [entry](model::audit::Entry) | one line of the audit trail, in the transaction of what it tells about |
//! | [trail](store::Trail) | the entries, in chains of hashes: one for each process |
//! | [receipt](model::Receipt) | what the caller gets: `delivered`, `queued`, `failed` or `unknown`, never a false "sent" |
//!
//! # The way out
//!
//! ```text
//! MCP tool call, `herald send`
//!   -> limits, Gate                  is there room, and who is it?           -> client
//!   -> Notifier::submit
//!        policy.authorize           may this client speak there?            -> Route, with its terms
//!        render::parse              Markdown -> document
//!        guard.document             what hides is shown, secrets are taken out, mentions lose their sting
//!        platform.render            document -> parts, within the platform's limits
//!        guard.parts                the last look at what was made of it
//!        outbox.enqueue             one transaction, the audit's line in it: from here on it is not lost
//!   -> Worker::tick
//!        outbox.claim               the heads of the lanes whose turn has come
//!        policy.authorize           again: a channel taken off the list gets nothing that was queued,
//!        guard.still_passes         nor does a text that today's rules would change
//!        platform.deliver           one request, shorter than the lease
//!        delivery::settle           pure: what the answer means for the delivery
//!        outbox.record              fenced by the claim's epoch
//! <- receipt, after a bounded wait
//! ```
//!
//! # When something breaks
//!
//! - **A process dies**: its leases run out (30 s; a listener's 15 s), and whoever claims a lane next finds its head `sending`.
//! - **An answer is lost** (that, a reset, a timeout, a 5xx after the request was written): the step is in doubt, and waits in its
//!   lane. On the next claim a nonce settles it (Discord), or [`platform::Platform::recall`] (Slack's history), or the operator's
//!   [`delivery::OnUnknown`]. The receipt, the log and a metric say which.
//! - **A platform fails** [five times in a row](store::TOO_OFTEN), or **refuses the secret**: the bot waits as a whole, for all processes
//!   on this store. The first is probed with one request at a time; the second ends with another secret, or `herald outbox
//!   resume`. What waits says why.
//! - **The store is away**: nothing is accepted, what people write stays at the platforms, and a result that is known is kept for
//!   a minute, because without the store nobody else can take the lane.
//! - **SIGTERM**: `/readyz` says so, nothing more is claimed, and requests, conversations and sends have
//!   [25 s](server::DRAIN) together.
//!
//! What is proved of this: the rules by a simulation of many days, each from a seed, with real workers over a model of the store
//! (`notifier/simulation/`); each engine by the suites of `store/contract/`; the whole by killing processes at named points
//! (`tests/kill_matrix.rs`) and by a proxy that breaks connections (`tests/fault_proxy.rs`), judged by what people see.
//!
//! # The way in
//!
//! ```text
//! Listener (Socket Mode, /slack/events, gateway, long polling)
//!   -> Inbox::take
//!        access                     may this person talk to the agent here?  a stranger is told their own ID
//!        conversations.take         once, by the platform's ID; only then is the platform told
//!   -> Bot::run                     holds each conversation in which something waits: lease, fence
//!        -> a turn                  saved before the agent is asked, again when its task is known
//!             a2a::Client           send, stream, re-attach, poll; never twice
//!             signals               a placeholder, edited: what the agent does right now
//!             approvals, questions  a card; the first decision of somebody who may decide counts
//!             Notifier::reply       the answer: the way out above, on a route to that conversation alone,
//!                                   checked again against access when it is sent
//! ```
//!
//! # What must never break
//!
//! 1. Nothing leaves without a [`policy::Route`], and only `policy` mints one. It is checked at submit and again at send.
//!    The bot may answer where nobody may post, as long as the person it answers may talk to the agent there.
//! 2. One way out: a tool call never sends by itself, it enqueues and waits. There is no fast path beside a retry path.
//!    Answers, cards and files take the same way; only signals go directly.
//! 3. Render before enqueue: the caller hears "too long" while it can still act, and a retry is byte-identical.
//! 4. Accepted means stored: no receipt before the row is committed. A store that is down is a clear error. A store in
//!    memory never promises `queued`.
//! 5. Order within a lane, no order between lanes: a slow or dead channel never delays another one.
//! 6. An ambiguous send is never repeated blindly: Discord recognises a nonce, Slack's history is asked; the rest follows
//!    `on_unknown`, at most once, and the receipt says so.
//! 7. A failure is classified once, at the platform's edge, into one closed list ([`model::Reason`]) with its
//!    [`model::Disposition`]. `Retry-After` is honoured in full.
//! 8. A secret never leaves its type: no `Debug`, log line, error, tool result. URLs are stripped from HTTP errors,
//!    because Telegram's token is in them. The log's writer is a second net.
//! 9. Clock and randomness are arguments ([`clock::Clock`]). Replicas that share a database share its clock.
//! 10. Content is hostile: an agent's text to the chat, a platform's text to the agent. Each is bounded and neutralised at
//!     the border it crosses.
//! 11. stdout belongs to MCP. Logs go to stderr.
//! 12. Modules point one way, and `tests/architecture.rs` enforces it.
//!
//! # The house
//!
//! Lower floors never import higher ones:
//!
//! ```text
//! clock  model            nouns, without I/O
//! telemetry               the log; metrics; traces: spans (all of them in one file); the exporter; Herald's own secrets, which
//!                         neither log nor guard lets through
//! policy                  each client's rights, access, Route; the rulebook
//! render                  Markdown -> document -> parts
//! guard                   characters, secrets, links, mentions
//! platform                the traits; http (the one client), socket; slack/ discord/ telegram/
//! store                   what is durable: a trait per family of tables; SQLite, and PostgreSQL for many replicas
//! delivery                the worker, and the pure rules it follows
//! retention               how long what is stored is kept, and who takes it away
//! audit                   where the audit trail goes besides the store
//! notifier                submit, update, status, channels
//! mcp                     tools, resources, prompts, transports, authentication
//! a2a                     a client for agents, in two dialects; knows nothing of chat
//! bot                     conversations, turns, approvals; who listens where
//! server                  axum: /mcp /slack/events /healthz /readyz; /metrics on a port of its own
//! config                  the settings, composed from each module's own
//! app                     the composition root: the only file that knows everyone
//! cli  main               commands
//!
//! sandbox                 an embedded chat workspace; imports nothing of ours but clock:
//!                         a world that shares code with what it judges flatters it
//! ```
//!
//! # What it says about itself
//!
//! A fact is told where it becomes known, once: as a log line by whoever handles it, and as a count or a time in
//! [`telemetry::Metrics`], which whoever has something to tell is given at its making. What is not counted but stands
//! somewhere (the queue in the store, a listener's standing) is asked when somebody looks: [`server::Readiness`] for
//! `/readyz`, [`server::Scrape`] for `/metrics`. Labels are closed lists or names from the configuration; channels,
//! people and texts are in the log at most. A trace follows a message: its context is stored with the event, the turn
//! and the delivery, because each may outlive the process that began it.
//!
//! # Whom it trusts
//!
//! An agent reads hostile text and then calls: it is assumed to try everything. So nothing that a caller says about itself
//! counts but its token, and what it may do is asked of the rulebook anew for each decision: `app` watches the files, and
//! puts another policy and another door there when they change, both or, where anything is wrong, neither.
//!
//! What is written down: each decision and each outcome, by the store, in the transaction that makes it true
//! ([`store::trail`]); what changes no state (a denial, somebody turned away) by whoever decided it.
//!
//! # How to add a platform
//!
//! One folder beside `platform/slack/` (its API, its dialect, its failures, its settings, its listener), one line in
//! [`platform::configured`] and [`platform::listeners`], one variant of [`model::PlatformKind`], its variables in `config` (and
//! what `herald check` says about how they go together), one face of the sandbox, and one line in the tests that run over
//! every platform. Nothing in `mcp`, `policy`, `store`, `delivery` or `bot` changes but the tool that carries its name.

pub mod a2a;
pub mod app;
pub mod audit;
pub mod bot;
pub mod cli;
pub mod clock;
pub mod config;
pub mod delivery;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod guard;
pub mod mcp;
pub mod model;
pub mod notifier;
pub mod platform;
pub mod policy;
pub mod render;
pub mod retention;
#[cfg(feature = "sandbox")]
pub mod sandbox;
pub mod server;
pub mod store;
pub mod telemetry;
