//! A service in one of several processes, on a store that fails.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::store::{
    Behind, ContactState, DeadLetter, Fellows, Heard, Listener, Member, News, Placed, Placing,
    Shared, Turn,
};

/// A store that others share, or so it says.
#[derive(Default)]
struct Commons {
    rows: MemoryStore,
    faulty: AtomicBool,
    /// What another process does once dead letters have been read.
    rival: Mutex<Vec<Change>>,
    listener: Mutex<Option<Box<dyn Listener>>>,
}

impl std::fmt::Debug for Commons {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Commons")
    }
}

impl Commons {
    fn tell(&self, news: News) {
        self.listener.lock().unwrap().as_ref().unwrap().take(news);
    }

    fn deliveries(&self, queue: &str) -> Vec<u64> {
        Waiting::load(&self.rows, queue).unwrap().inbox.iter().map(|row| row.id).collect()
    }
}

impl Store for Commons {
    fn load(&self, contact: &mut dyn FnMut(ContactKey, ContactState)) -> Result<()> {
        self.rows.load(contact)
    }

    fn apply(&self, changes: Vec<Change>, durability: Durability) -> Result<()> {
        if self.faulty.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Store, "the disk is full"));
        }
        self.rows.apply(changes, durability)
    }

    fn load_queue(&self, queue: &str, row: &mut dyn FnMut(Row)) -> Result<()> {
        self.rows.load_queue(queue, row)
    }

    fn dead_letters(&self, queue: &str, letter: &mut dyn FnMut(DeadLetter)) -> Result<()> {
        self.rows.dead_letters(queue, letter)?;
        self.rows.apply(std::mem::take(&mut self.rival.lock().unwrap()), Durability::Now)
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn shared(&self) -> Option<&dyn Shared> {
        Some(self)
    }
}

impl Shared for Commons {
    fn join(&self, app: &str, listener: Box<dyn Listener>) -> Result<Member> {
        *self.listener.lock().unwrap() = Some(listener);
        Ok(Member { queue: format!("{app}/1").into(), number: 1 })
    }

    fn exchange(
        &self,
        _: &ContactKey,
        from: Subscription,
        _: Subscription,
    ) -> Result<Subscription> {
        Ok(from)
    }

    fn tell(&self, _: &Member, _: &ContactKey, _: &Heard, _: u64) -> bool {
        false
    }

    fn fellows(&self, _: &str, _: &Member) -> Result<Fellows> {
        Ok(Fellows::new())
    }

    fn place(&self, _: &str, _: &Member, changes: Vec<Change>, done: Placing) {
        done(self.apply(changes, Durability::Now).map(|()| Placed::default()));
    }

    fn behind(&self, _: &Member, _: &[Turn]) -> Result<Vec<Behind>> {
        Ok(Vec::new())
    }

    fn set_up(&self, _: &Member, _: bool) {}

    fn holds(&self, _: &Member) -> bool {
        true
    }
}

fn shared() -> (Arc<Commons>, Service) {
    let store = Arc::new(Commons::default());
    let service = Service::new(config(), Box::new(Arc::clone(&store))).unwrap();
    (store, service)
}

fn kept(service: &Service) -> Delivery {
    let xml = format!("<message from='{USER}/r' to='{APP}' type='chat'><body>hi</body></message>");
    let delivery = receive(service, &xml).delivery.unwrap();
    service.keep(vec![service.keep_delivery(&delivery)], Durability::Now).unwrap();
    delivery
}

#[test]
fn a_delivery_that_the_store_does_not_forget_is_settled_again_with_a_later_beat() {
    let (store, service) = shared();
    let woken = Arc::new(AtomicBool::new(false));
    let wake = Arc::clone(&woken);
    service.on_news(move || wake.store(true, Ordering::Relaxed));
    let delivery = kept(&service);
    woken.store(false, Ordering::Relaxed);
    store.tell(News::Others(0));
    assert!(!woken.load(Ordering::Relaxed), "nothing is to be done");

    store.faulty.store(true, Ordering::Relaxed);
    service.forget_delivery(delivery.id);
    store.tell(News::Others(0));
    assert!(woken.swap(false, Ordering::Relaxed));
    assert!(service.next_legacy().unwrap().is_none());
    assert_eq!(store.deliveries(service.queue()), [delivery.id], "others wait for it");

    store.faulty.store(false, Ordering::Relaxed);
    store.tell(News::Others(0));
    assert!(woken.swap(false, Ordering::Relaxed));
    assert!(service.next_legacy().unwrap().is_none());
    assert_eq!(store.deliveries(service.queue()), [0; 0]);
}

#[test]
fn what_was_stored_though_nobody_was_told_is_forgotten_with_what_was_not() {
    let (store, service) = shared();
    let delivery = kept(&service);
    service.not_kept(&[delivery]);
    assert_eq!(store.deliveries(service.queue()), [0; 0]);
}

/// What is said to contacts, the questions left out, of whom one sees the app.
fn said(service: &Service) -> Vec<String> {
    let sends = texts(&service.handle_timeout(NOON, 100));
    sends.into_iter().filter(|it| !it.contains("probe")).collect()
}

#[test]
fn contacts_are_told_if_who_had_the_stream_before_is_gone_after_all() {
    let (store, service) = shared();
    let key = ContactKey { own: APP.into(), contact: USER.into() };
    let state = ContactState { subscription: Subscription::Both, ..ContactState::default() };
    store.tell(News::Contact(key, state));
    store.tell(News::Others(1));
    service.handle_ready(NOON);
    assert_eq!(said(&service), [""; 0], "the other one has told them");
    store.tell(News::Others(1));
    assert_eq!(said(&service), [""; 0]);
    store.tell(News::Others(0));
    assert_eq!(service.poll_timeout(), Some(Duration::ZERO));
    assert_eq!(said(&service).len(), 1, "it told them goodbye");
    assert_eq!(said(&service), [""; 0]);

    store.tell(News::Others(1));
    service.handle_ready(NOON);
    (0..9).for_each(|_| store.tell(News::Others(1)));
    store.tell(News::Others(0));
    assert_eq!(said(&service), [""; 0], "it knew of us, and just died");
}

#[test]
fn contacts_that_another_process_takes_as_gone_are_asked_all_of_them_if_they_are_many() {
    let asked = |count: usize| {
        let (store, service) = shared();
        let contact = |n: usize| format!("c{n}@example.org");
        for n in 0..count {
            let state = ContactState {
                subscription: Subscription::Both,
                available: Some(Show::Normal),
                ..ContactState::default()
            };
            let key = ContactKey { own: APP.into(), contact: contact(n).into() };
            store.tell(News::Contact(key.clone(), state));
            let resource = "r".into();
            store.tell(News::Heard(
                key,
                Heard::Available { resource, priority: 0, show: Show::Away },
            ));
        }
        (0..9).for_each(|_| store.tell(News::Others(1)));
        service.handle_ready(NOON);
        let mut now = NOON;
        let mut probes = |until: Duration| {
            let mut probes = 0;
            while service.poll_timeout().is_some_and(|due| due <= until) {
                now = service.poll_timeout().unwrap().max(now);
                let sends = texts(&service.handle_timeout(now, 1000));
                probes += sends.iter().filter(|it| it.contains("probe")).count();
            }
            probes
        };
        assert_eq!(probes(NOON + Duration::from_secs(5)), count);
        (0..9).for_each(|_| store.tell(News::Others(1)));
        for n in 0..count {
            let key = ContactKey { own: APP.into(), contact: contact(n).into() };
            store.tell(News::Heard(key, Heard::Unavailable(None)));
        }
        probes(NOON + Duration::from_secs(12))
    };
    assert_eq!(asked(3), 3);
    assert!(asked(1500) >= 1500, "each, or all once more");
}

#[test]
fn a_dead_letter_that_another_process_replays_at_the_same_moment_is_not_delivered_here_too() {
    let (store, service) = shared();
    let ids = [kept(&service).id, kept(&service).id];
    for id in ids {
        let bury = service.delivery_dead(id, Duration::ZERO, "timeout");
        service.keep(vec![bury], Durability::Now).unwrap();
    }
    // It is no dead letter any more, and waits for that process.
    store.rival.lock().unwrap().push(Change::Purge(service.queue().clone(), ids[0]));
    let replayed = service.replay_dead_letters(&ids.into()).unwrap();
    assert_eq!(replayed.iter().map(|delivery| delivery.id).collect::<Vec<_>>(), [ids[1]]);
    assert_eq!(store.deliveries(service.queue()), [ids[1]]);
    assert!(service.replay_dead_letters(&ids.into()).unwrap().is_empty());
}

#[test]
fn contacts_with_whom_another_process_changed_subscriptions_are_told_and_asked() {
    let (store, service) = shared();
    let granted = |contact: &str| {
        let key = ContactKey { own: APP.into(), contact: contact.into() };
        (key, ContactState { subscription: Subscription::From, ..ContactState::default() })
    };
    let (key, state) = granted("a@example.org");
    store.tell(News::Contact(key, state));
    assert_eq!(service.poll_timeout(), None, "there is no stream");
    service.handle_ready(NOON);
    assert_eq!(said(&service).len(), 1);
    let (key, state) = granted("b@example.org");
    store.tell(News::Contact(key.clone(), state.clone()));
    assert_eq!(service.poll_timeout(), Some(Duration::ZERO));
    assert!(said(&service)[0].contains("b@example.org"));
    store.tell(News::Contact(key, state));
    // What was missed while the store was out of reach.
    let all = ["a@example.org", "b@example.org", "c@example.org"].map(granted);
    store.tell(News::Contacts(all.into()));
    let told = said(&service);
    assert!(told.len() == 1 && told[0].contains("c@example.org"), "{told:?}");
    assert_eq!(said(&service), [""; 0]);
    let (key, state) = granted("c@example.org");
    store.tell(News::Contact(key, ContactState { subscription: Subscription::Both, ..state }));
    let asked = texts(&service.handle_timeout(NOON + Duration::from_secs(1), 100));
    assert!(asked.len() == 1 && asked[0].contains("probe"), "{asked:?}");
}
