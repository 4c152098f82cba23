//! What the judge says about requests: whether they may be made, and what people see of them.

use std::sync::Arc;

use super::Day;
use super::judge::{Answered, Asked, Judge, Request, numbers};
use super::plan::Chat;
use super::process::Process;
use super::world::RECOGNISES;
use crate::clock::millis;
use crate::delivery::OnUnknown;
use crate::model::Action;

/// A request under way. Once it is dropped, whoever made it has an answer, or will never have one.
pub(super) struct UnderWay {
    day: Arc<Day>,
    pub(super) request: usize,
    said: Option<Answered>,
}

impl UnderWay {
    pub(super) fn answered(&mut self, said: Option<Answered>) {
        self.said = said;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.day.judge().request_ends(&self.day, self.request, self.said);
    }
}

impl Judge {
    /// A request is made.
    pub(super) fn begins(
        &mut self,
        day: &Arc<Day>,
        process: &Arc<Process>,
        asked: Asked,
        secret: u32,
    ) -> UnderWay {
        let Asked { channel, step } = asked;
        let (now, request, asks) = (day.now(), self.requests.len(), step.is_none());
        let key = (process.name.clone(), channel.clone());
        let claimed = self.attempts.get_mut(&key).map(|attempt| {
            attempt.requests.push(request);
            (attempt.at, attempt.n)
        });
        let who = &process.name;
        if claimed.is_none() {
            self.complain(day, "claimed", || format!("{who} asks {channel} without a claim"));
        }
        let (at, n) = claimed.unwrap_or_default();
        let post = &day.plan.posts[n];
        if post.channel != channel || !process.allowed.contains(&channel) {
            self.complain(day, "route", || format!("{who} may not send m{n} to {channel}"));
        }
        self.may_ask(day, process, &channel, secret, at);
        let book = self.books.get(&n);
        let (life, deadline) = book.map_or((0, 0), |book| (book.life, book.deadline.0));
        // A claim in time may be used for as long as a request may take.
        let latest = deadline + 20_000 + i64::try_from(day.plan.apart).unwrap();
        let stopped = self.was_stopped(channel.platform(), at);
        if process.at(now).0 > latest && !asks && !stopped {
            self.complain(day, "deadline", || format!("{who} asks for m{n} too late"));
        }
        let other = self
            .requests
            .iter()
            .rev()
            .take(50)
            .any(|it| !it.ended && !it.asks && it.channel == channel && it.process.is_alive());
        if other && !asks {
            self.complain(day, "alone", || format!("{who} is not alone in {channel} with m{n}"));
        }
        let sends = step.as_ref().filter(|step| matches!(step.action, Action::Send { .. }));
        let sends = sends.and_then(super::said).and_then(|word| numbers(&word));
        let sends = sends.map(|(n, part)| (n, part, life));
        if let Some(it) = sends {
            self.may_repeat(day, &day.plan.chats[post.chat], it);
        }
        let (ended, applied, doubtful, recorded) = (false, false, true, false);
        let process = Arc::clone(process);
        let it = Request { process, channel, sends, asks, ended, applied, doubtful, recorded };
        self.requests.push(it);
        UnderWay { day: Arc::clone(day), request, said: None }
    }

    /// What may have arrived may be sent again by the rules alone.
    fn may_repeat(&mut self, day: &Day, chat: &Chat, it: (usize, usize, usize)) {
        let (n, part, _) = it;
        let earlier = || self.requests.iter().filter(|request| request.sends == Some(it));
        let doubts = earlier().filter(|request| request.applied || request.doubtful).count();
        let arrived = earlier().any(|request| request.applied);
        let wrong = if chat.capabilities.dedupes {
            // Judged by what people see.
            false
        } else if chat.capabilities.recalls && chat.tells {
            arrived
        } else {
            match day.plan.on_unknown {
                OnUnknown::Hold => doubts > 0,
                OnUnknown::Resend => doubts > 1,
            }
        };
        if wrong {
            let mode = day.plan.on_unknown;
            self.complain(day, "doubt", || {
                format!("m{n}p{part} may have arrived {doubts} times and is sent again ({mode:?})")
            });
        }
    }

    /// A platform did what it was asked for; `new` if there is a message now that was not there before.
    pub(super) fn applied(&mut self, day: &Day, request: usize, id: &str, new: bool) {
        self.requests[request].applied = true;
        let Some(it) = self.requests[request].sends.filter(|_| new) else { return };
        let (n, part, life) = it;
        let channel = self.requests[request].channel.clone();
        let place = self.books.get(&n).map_or(0, |book| book.place);
        day.tell(|| format!("people see m{n}p{part} in {channel} as {id}"));
        let certain =
            |copy: &usize| self.requests[*copy].recorded && !self.requests[*copy].doubtful;
        let copies = self.copies.get(&it).cloned().unwrap_or_default();
        let chat = &day.plan.chats[day.plan.posts[n].chat];
        let knows = chat.capabilities.recalls && chat.tells;
        let wrong = match copies.len() {
            0 => false,
            1 => copies.iter().any(certain) || knows || day.plan.on_unknown == OnUnknown::Hold,
            _ => true,
        };
        if wrong {
            let window = RECOGNISES / 1000;
            self.complain(day, "twice", || {
                format!(
                    "m{n}p{part} appears {} times (recognised for {window} s)",
                    copies.len() + 1
                )
            });
        }
        self.copies.entry(it).or_default().push(request);
        self.in_its_thread(day, request, id, it);
        let Some(lane) = self.lanes.get_mut(&channel) else { return };
        let last = lane.last;
        // What was put back after it had ended comes late, as whoever wanted it knows.
        if life == 0 {
            lane.last = lane.last.max((place, part));
        }
        if life == 0 && (place, part) < last {
            self.complain(day, "order", || format!("m{n}p{part} comes after what was sent later"));
        }
    }

    /// A message with a key stands in the thread that the key stood for when it was claimed.
    fn in_its_thread(&mut self, day: &Day, request: usize, id: &str, it: (usize, usize, usize)) {
        let (n, part, _) = it;
        let Request { process, channel, .. } = &self.requests[request];
        let post = &day.plan.posts[n];
        let Some(word) = post.thread_key.filter(|_| part == 0) else { return };
        let key = (post.client.to_owned(), channel.clone(), word.to_owned());
        let Some((thread, since)) = self.threads.get(&key) else { return };
        let attempt = self.attempts.get(&(process.name.clone(), channel.clone()));
        if attempt.is_none_or(|attempt| attempt.at <= *since) || thread.is_none() {
            return;
        }
        let stands = id.parse().ok().and_then(|id: usize| day.world().messages[id].thread.clone());
        if stands != *thread {
            let thread = thread.clone();
            self.complain(day, "thread", || {
                format!("m{n} stands in {stands:?}, and {word} is {thread:?}")
            });
        }
    }

    /// Whoever made a request has an answer, or will never have one.
    fn request_ends(&mut self, day: &Day, request: usize, said: Option<Answered>) {
        let Request { process, channel, .. } = &self.requests[request];
        let key = (process.name.clone(), channel.clone());
        let own = |attempt: &&mut super::judge::Attempt| attempt.requests.contains(&request);
        if let Some(attempt) = self.attempts.get_mut(&key).filter(own) {
            // A lost answer is a failure like one that was told.
            attempt.last = Some((said.unwrap_or(Answered::Failed), day.now()));
        }
        let request = &mut self.requests[request];
        request.ended = true;
        request.doubtful = matches!(said, None | Some(Answered::Failed));
    }
}

/// The longest pause between two tries.
pub(super) fn longest_pause(day: &Day, attempts: u32) -> u64 {
    let base = u64::try_from(millis(day.plan.backoff)).unwrap();
    // A doubt waits for the history to settle.
    (base << attempts.saturating_sub(1).min(16)).clamp(2_000, 300_000)
}
