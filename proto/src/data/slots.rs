//! Rows of the forwarding table that clone by reference count, and those of them that are named by random numbers.

use std::sync::Arc;

/// Rows per chunk: what one change copies.
const CHUNK: usize = 64;

/// Rows by random numbers that the owner of the table draws: a number's low bits are its place, and one whose place is taken is
/// not used ([`Slots::is_free`]).
#[derive(Clone)]
pub(super) struct Slots<T> {
    slots: Chunks<Slot<T>>,
    taken: usize,
}

/// A number that is taken, and its row once there is one.
#[derive(Clone)]
struct Slot<T> {
    number: u32,
    row: Option<T>,
}

impl<T: Clone> Slots<T> {
    pub(super) fn new() -> Self {
        Self { slots: Chunks::with_len(CHUNK), taken: 0 }
    }

    #[inline]
    pub(super) fn get(&self, number: u32) -> Option<&T> {
        self.slots.get(self.place(number)).filter(|slot| slot.number == number)?.row.as_ref()
    }

    /// Whether a number is taken, with a row or without.
    pub(super) fn has(&self, number: u32) -> bool {
        self.slots.get(self.place(number)).is_some_and(|slot| slot.number == number)
    }

    /// Whether a number may be taken: its place must be free.
    pub(super) fn is_free(&self, number: u32) -> bool {
        self.slots.get(self.place(number)).is_none()
    }

    /// Takes a number that is free, or changes the row of one that is taken.
    pub(super) fn put(&mut self, number: u32, row: Option<T>) {
        self.taken += usize::from(self.is_free(number));
        self.slots.set(self.place(number), Some(Slot { number, row }));
        // At half full, a random number finds a free place in two tries on average.
        if self.taken * 2 > self.slots.len() {
            self.grow();
        }
    }

    pub(super) fn remove(&mut self, number: u32) {
        if self.has(number) {
            self.slots.set(self.place(number), None);
            self.taken -= 1;
        }
    }

    /// How many numbers are taken.
    pub(super) const fn taken(&self) -> usize {
        self.taken
    }

    /// Places are low bits, so twice as many have no new collisions.
    fn grow(&mut self) {
        let twice = Chunks::with_len(self.slots.len() * 2);
        let old = std::mem::replace(&mut self.slots, twice);
        for slot in old.into_rows() {
            self.slots.set(self.place(slot.number), Some(slot));
        }
    }

    fn place(&self, number: u32) -> usize {
        // The length is a power of two.
        number as usize & (self.slots.len() - 1)
    }
}

/// A sparse array that clones in one reference count per chunk and copies a chunk when it changes.
#[derive(Clone)]
pub(super) struct Chunks<T>(Vec<Option<Arc<[Option<T>; CHUNK]>>>);

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Clone> Chunks<T> {
    fn with_len(len: usize) -> Self {
        Self(vec![None; len.div_ceil(CHUNK)])
    }

    fn len(&self) -> usize {
        self.0.len() * CHUNK
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<&T> {
        self.0.get(index / CHUNK)?.as_ref()?.get(index % CHUNK)?.as_ref()
    }

    pub(super) fn set(&mut self, index: usize, row: Option<T>) {
        let chunk = index / CHUNK;
        if chunk >= self.0.len() {
            if row.is_none() {
                return;
            }
            self.0.resize(chunk + 1, None);
        }
        let Some(slot) = self.0.get_mut(chunk) else { return };
        let rows = slot.get_or_insert_with(|| Arc::new([const { None }; CHUNK]));
        if let Some(old) = Arc::make_mut(rows).get_mut(index % CHUNK) {
            *old = row;
        }
    }

    fn into_rows(self) -> impl Iterator<Item = T> {
        self.0.into_iter().flatten().flat_map(|chunk| Arc::unwrap_or_clone(chunk).into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_put_is_found_by_its_whole_number_until_it_is_removed(
            steps in proptest::collection::vec((any::<bool>(), 0u32..400, 0u32..4), 0..600),
        ) {
            let (mut slots, mut model) = (Slots::new(), BTreeMap::new());
            for (is_put, low, high) in steps {
                let number = high << 20 | low;
                if !is_put {
                    slots.remove(number);
                    model.remove(&number);
                } else if slots.is_free(number) || slots.has(number) {
                    slots.put(number, (low % 2 == 0).then_some(number));
                    model.insert(number, low % 2 == 0);
                }
            }
            prop_assert_eq!(slots.taken(), model.len());
            for number in (0..400).flat_map(|low| (0..4).map(move |high| high << 20 | low)) {
                prop_assert_eq!(slots.has(number), model.contains_key(&number));
                prop_assert_eq!(slots.get(number).copied(), model.get(&number).is_some_and(|has| *has).then_some(number));
            }
        }
    }
}
