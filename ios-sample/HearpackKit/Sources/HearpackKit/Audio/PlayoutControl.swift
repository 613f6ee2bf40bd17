/// How fast a playout ring's reader runs and what it cuts out, by the levels that writes find: `Control` of
/// streaming/core/playout.py to the bit. All of it is the writer's.
struct PlayoutControl {
    static let one: Int64 = 1 << 32
    private static let adjustLimit: Int64 = 4_294_967  // 1000 ppm of 2^32
    private static let firstLimit: Int64 = 2_147_483  // 500 ppm
    private static let recoverySeconds = 4

    private let rateHz: Int
    private let prefill: Int
    private let tolerance: Int
    private let driftCorrection: Bool
    private let free: Int64
    private let shift: Int64
    private let gain: Int64
    private let most: Int64

    /// What a step is more than 1, in 2^-32 samples.
    private(set) var adjust: Int64 = 0
    /// Samples to be cut out.
    private(set) var cut = 0
    /// `adjust` while all begins anew.
    var rest: Int64 { integral >> 16 }

    private var unlike = false
    private var usual: Int?
    private var integral: Int64 = 0
    private var played = 0
    private var short = -1  // the first begin is none too soon
    private var target: Int64?
    private var average: Int64 = 0
    private var sinceTarget: Int64 = 0
    private var sum = 0
    private var seen = 0
    private var seconds = 0
    private var lowest = 0

    init(rateHz: Int, prefill: Int, deadband: Int, tolerance: Int, driftCorrection: Bool) {
        (self.rateHz, self.prefill, self.tolerance) = (rateHz, prefill, tolerance)
        self.driftCorrection = driftCorrection
        free = Int64(deadband) << 16
        shift = Int64(Int.bitWidth - 1 - rateHz.leadingZeroBitCount)
        gain = Self.one / 4 / Int64(rateHz)
        most = Int64(rateHz >> 2) << 16
    }

    /// Playing begins.
    mutating func begin() {
        short = played < Self.recoverySeconds * rateHz ? short + 1 : 0
        if short == 2 { (short, usual) = (0, nil) }
        played = 0
        restart()
    }

    /// The level is another.
    mutating func restart() {
        (target, average, sinceTarget) = (nil, 0, 0)
        (sum, seen, seconds, lowest, cut) = (0, 0, 0, 0, 0)
        adjust = rest
    }

    /// `count` samples were written, and this is the level; a read takes `frames`.
    mutating func write(_ count: Int, level: Int, frames: Int) {
        lowest = seen == 0 ? level : min(lowest, level)
        sum += level * count
        seen += count
        played += count
        if let target, driftCorrection { follow(Int64(count), Int64(level), target) }
        if seen >= rateHz { look(frames) }
    }

    private mutating func look(_ frames: Int) {
        let mean = sum / seen
        seconds += 1
        if target == nil {
            average = Int64(mean) << 16
            target = average
        }
        if let usual {
            let above = mean - usual
            if cut == 0 && above > (seconds <= Self.recoverySeconds ? tolerance / 2 : 2 * tolerance) { cut = above }
        } else if seconds == 2 {
            usual = mean - lowest + max(prefill - tolerance, min(prefill + tolerance + frames, lowest))
        }
        (sum, seen) = (0, 0)
    }

    private mutating func follow(_ count: Int64, _ level: Int64, _ target: Int64) {
        let step = max(-most, min(most, (level << 16) - average))
        average += (step * min(count, 1 << shift)) >> shift
        sinceTarget += count
        var error = average - target
        if !unlike {
            if abs(error) <= free { return }
            unlike = true
            let first = min((abs(error) << 16) / sinceTarget, Self.firstLimit) << 16
            integral = error > 0 ? first : -first
        }
        error = max(-most, min(most, error))
        let limit = Self.adjustLimit << 16
        integral = max(-limit, min(limit, integral + ((error * count) >> (2 * shift - 21))))
        adjust = max(-Self.adjustLimit, min(Self.adjustLimit, (integral >> 16) + ((error * gain) >> 16)))
    }
}
