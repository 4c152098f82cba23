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
mod audit;
mod auth;
mod canaries;
mod check;
mod clients;
mod collector;
mod commands;
mod discord_cards;
mod discord_gateway;
mod durability;
mod facts;
mod fault_proxy;
mod fleet;
mod gate;
mod issuer;
mod keys;
mod kill_matrix;
mod lanes;
mod leaving;
mod malformed;
mod mentions;
mod metrics;
mod ordinary;
mod outage;
mod outbox;
mod pitfalls;
mod pooler;
mod postgres;
mod postgres_server;
mod proxy;
mod recovery;
mod refusals;
mod replicas;
mod secrets;
mod sending;
mod slack;
mod talking;
mod telegram;
mod token_shapes;
mod tracing;
mod world;
