//! The nearest known name to one that is not known: what a slip of the keyboard meant.

/// Finds the known name that is the fewest slips away; `None` where all are too far to be meant.
///
/// A slip is one character added, left out, exchanged, or swapped with its neighbour. Case does not count. A name
/// tolerates one slip per three characters, at most three.
pub fn nearest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = fold(wanted);
    let mut limit = (wanted.len() / 3).clamp(1, 3);
    let mut best = None;
    for name in known {
        let candidate = fold(name);
        if candidate.len().abs_diff(wanted.len()) > limit {
            continue;
        }
        let slips = distance(&wanted, &candidate);
        if slips < limit || (slips == limit && best.is_none()) {
            (best, limit) = (Some(name), slips);
        }
    }
    best
}

fn fold(text: &str) -> Vec<char> {
    text.chars().map(|c| c.to_ascii_lowercase()).collect()
}

/// Optimal string alignment distance (Damerau 1964, restricted to neighbours): three rows of the usual table.
fn distance(left: &[char], right: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    let mut last_left = None;
    for (i, &l) in left.iter().enumerate() {
        let mut row = Vec::with_capacity(above.len());
        row.push(i + 1);
        let mut last_right = None;
        for (j, (&r, diagonal)) in right.iter().zip(above.windows(2)).enumerate() {
            let &[kept, dropped] = diagonal else { continue };
            let added = row.last().copied().unwrap_or_default();
            let mut cost = (kept + usize::from(l != r)).min(dropped + 1).min(added + 1);
            if last_left == Some(r)
                && last_right == Some(l)
                && let Some(swapped) = j.checked_sub(1).and_then(|j| before.get(j))
            {
                cost = cost.min(swapped + 1);
            }
            row.push(cost);
            last_right = Some(r);
        }
        before = std::mem::replace(&mut above, row);
        last_left = Some(l);
    }
    above.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slips(left: &str, right: &str) -> usize {
        distance(&fold(left), &fold(right))
    }

    #[test]
    fn each_kind_of_slip_counts_once() {
        for (left, right, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("subnet", "subnets", 1),
            ("mtuu", "mtu", 1),
            ("keyfile", "key_file", 1),
            ("nmae", "name", 1),
            ("knid", "kind", 1),
            ("Name", "name", 0),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(slips(left, right), expected, "{left} {right}");
        }
    }

    #[test]
    fn the_nearest_name_wins_and_a_far_one_is_not_offered() {
        let keys = ["name", "key_file", "mesh", "psk_file"];
        assert_eq!(nearest("key-file", keys), Some("key_file"));
        assert_eq!(nearest("psk_fle", keys), Some("psk_file"));
        assert_eq!(nearest("Mesh", keys), Some("mesh"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest("x", []), None);
        assert_eq!(nearest("beijing.egde1", ["beijing.edge2", "beijing.edge1"]), Some("beijing.edge1"));
    }

    proptest! {
        #[test]
        fn distance_is_symmetric_and_bounded(a in ".{0,12}", b in ".{0,12}") {
            let (left, right) = (fold(&a), fold(&b));
            prop_assert_eq!(distance(&left, &right), distance(&right, &left));
            prop_assert!(distance(&left, &right) <= left.len().max(right.len()));
            prop_assert!(distance(&left, &right) >= left.len().abs_diff(right.len()));
            prop_assert_eq!(distance(&left, &left), 0);
        }
    }
}
