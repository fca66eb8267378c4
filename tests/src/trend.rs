//! Whether readings of a long run grow: the first third of them against the last.

/// The median; `None` of nothing.
pub fn median(values: &[u64]) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

/// The medians of the first and of the last third of some readings; `None` of fewer than three.
pub fn thirds(readings: &[u64]) -> Option<(u64, u64)> {
    let third = readings.len() / 3;
    let (first, last) = (&readings[..third], &readings[readings.len() - third..]);
    median(first).zip(median(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirds_tell_growth_from_noise() {
        assert_eq!(thirds(&[5, 5]), None);
        assert_eq!(thirds(&[7, 8, 9]), Some((7, 9)));
        // An outlier in either third changes nothing.
        assert_eq!(thirds(&[10, 99, 10, 50, 50, 50, 10, 10, 99]), Some((10, 10)));
        assert_eq!(thirds(&[10, 11, 12, 13, 14, 15, 16, 17, 18, 19]), Some((11, 18)));
    }
}
