//! How many connections there may be: places, taken when one is accepted and given back when it ends.
//!
//! Promises: never more connections than places, over all listeners, and never more than half of the places for one source
//! address, so that no peer alone keeps all others out.

use std::collections::HashMap;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    connections: HashMap<u64, (IpAddr, Arc<TcpStream>)>,
    next: u64,
}

/// A place that is taken, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
}

impl Places {
    /// `most` places, none of them taken.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why there is no place for a connection from `source`, if there is none.
    fn refusal(&self, taken: &Taken, source: IpAddr) -> Option<&'static str> {
        if taken.connections.len() >= self.most {
            return Some("[collector] max_connections are open");
        }
        let own = taken.connections.values().filter(|(address, _)| *address == source).count();
        (own >= self.most.div_ceil(2)).then_some("half of [collector] max_connections are open to this address alone")
    }

    /// Takes a place for a connection from `source`.
    ///
    /// # Errors
    /// With the reason when there is none.
    pub(super) fn take(self: &Arc<Self>, source: IpAddr, stream: &Arc<TcpStream>) -> Result<Place, &'static str> {
        let mut taken = self.lock();
        if let Some(reason) = self.refusal(&taken, source) {
            return Err(reason);
        }
        let number = taken.next;
        taken.next = number.wrapping_add(1);
        taken.connections.insert(number, (source, Arc::clone(stream)));
        Ok(Place { places: Arc::clone(self), number })
    }

    /// Lets no more come in from any connection: reading goes on to the end of what has arrived.
    pub(super) fn end_all(&self) {
        for (_, stream) in self.lock().connections.values() {
            // One that the peer has closed already needs it no more.
            let _ = stream.shutdown(Shutdown::Read);
        }
    }
}

impl Place {
    /// Whether another connection of the same source would find no place.
    pub(super) fn is_wanted(&self) -> bool {
        let taken = self.places.lock();
        let source = taken.connections.get(&self.number).map(|(address, _)| *address);
        source.is_some_and(|source| self.places.refusal(&taken, source).is_some())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().connections.remove(&self.number);
    }
}
