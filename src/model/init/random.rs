//! Random numbers that are the same on every machine and in every version: integer arithmetic, and nothing of
//! floating point but what IEEE 754 defines to the bit.

/// The splitmix64 generator.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator that starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// A generator for one of many things of a seed, by its name: FNV-1a over the name, then the seed.
    pub fn for_name(seed: u64, name: &str) -> Self {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Random(hash ^ Random(seed).next_u64())
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` on, below `high`.
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * ((self.next_u64() >> 40) as f32 / (1 << 24) as f32)
    }

    /// A number of mean 0 and variance 1, near enough to a normal one: the sum of four uniform ones of 16 bits,
    /// which reaches 3.46 at most. (A true one takes a logarithm, whose last bit differs between machines.)
    pub fn normal(&mut self) -> f32 {
        let bits = self.next_u64();
        let sum: u64 = (0..4).map(|i| (bits >> (16 * i)) & 0xffff).sum();
        // Each has mean 65535 / 2 and variance (65536^2 - 1) / 12.
        const DEVIATION: f32 = 37_837.227; // sqrt(4 * variance)
        (sum as f32 - 131_070.0) / DEVIATION
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_numbers_have_mean_0_and_variance_1() {
        let mut random = Random::for_name(1, "emotion.conv1.weight");
        let numbers: Vec<f64> = (0..100_000).map(|_| f64::from(random.normal())).collect();
        let mean = numbers.iter().sum::<f64>() / 1e5;
        let variance = numbers.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }

    #[test]
    fn a_seed_gives_the_same_numbers_in_every_version() {
        let mut random = Random::new(7);
        assert_eq!(random.next_u64(), 0x63cb_e1e4_5932_0dd7);
        assert!((0.0..1.0).contains(&random.between(0.0, 1.0)));
    }

    #[test]
    fn names_and_seeds_give_streams_of_their_own() {
        let first = |seed, name| Random::for_name(seed, name).next_u64();
        assert_eq!(first(3, "a"), first(3, "a"));
        assert_ne!(first(3, "a"), first(4, "a"));
        assert_ne!(first(3, "a"), first(3, "b"));
    }
}
