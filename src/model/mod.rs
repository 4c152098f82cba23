//! The nouns, without I/O: channels, messages, deliveries and the ways they fail.

pub mod audit;
mod channel;
mod delivery;
mod failure;
mod inbound;
mod message;

pub use channel::{ChannelId, ChannelInfo, ChannelKind, InvalidChannel, PlatformKind};
pub use delivery::{
    Action, Delivery, DeliveryId, DeliveryState, Doubt, MessageRef, Pause, Receipt, Status, Step,
};
pub use failure::{Disposition, Failure, Reason, Scope};
pub use inbound::{Attachment, Event, Invitation, Occurrence, Person, ResponseUrl, Visit};
pub use message::{
    Button, ButtonStyle, CardPart, ClientName, FilePart, Identity, Mentions, Part, Placement,
    Submission, TextPart,
};
