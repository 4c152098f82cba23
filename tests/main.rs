//! The one integration-test binary: Herald in the sandbox's world, over real sockets.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should stop"
)]

mod agents;
mod ambiguity;
mod architecture;
mod check;
mod collector;
mod commands;
mod discord_cards;
mod discord_gateway;
mod durability;
mod fault_proxy;
mod fleet;
mod kill_matrix;
mod lanes;
mod metrics;
mod outbox;
mod pitfalls;
mod postgres;
mod postgres_server;
mod proxy;
mod recovery;
mod refusals;
mod secrets;
mod sending;
mod slack;
mod talking;
mod telegram;
mod tracing;
mod world;
