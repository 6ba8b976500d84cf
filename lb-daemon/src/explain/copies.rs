//! Copies that are made when they are first asked for, and stay where they are.

use std::{cell::OnceCell, iter::successors};

/// Values by key, in the order in which they were asked for; a packet asks for few. Whoever holds one may ask for more, so
/// they are a chain of links that are set once, and never moved.
#[derive(Debug)]
pub(super) struct Copies<K, V> {
    first: OnceCell<Box<Link<K, V>>>,
}

#[derive(Debug)]
struct Link<K, V> {
    key: K,
    value: V,
    next: OnceCell<Box<Self>>,
}

impl<K, V> Default for Copies<K, V> {
    fn default() -> Self {
        Self { first: OnceCell::new() }
    }
}

impl<K: PartialEq, V> Copies<K, V> {
    /// The copy under a key, made by `read` if there is none yet.
    pub(super) fn get(&self, key: K, read: impl FnOnce(&K) -> V) -> &V {
        let mut place = &self.first;
        while let Some(link) = place.get() {
            if link.key == key {
                return &link.value;
            }
            place = &link.next;
        }
        let value = read(&key);
        &place.get_or_init(|| Box::new(Link { key, value, next: OnceCell::new() })).value
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        successors(self.first.get(), |link| link.next.get()).map(|link| (&link.key, &link.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_key_once_and_keeps_the_order() {
        let copies = Copies::default();
        let first = copies.get(7, |key| key * 10);
        let second = copies.get(3, |key| key * 10);
        assert_eq!((*first, *second, *copies.get(7, |_| unreachable!())), (70, 30, 70));
        assert_eq!(copies.iter().map(|(key, value)| (*key, *value)).collect::<Vec<_>>(), [(7, 70), (3, 30)]);
    }
}
