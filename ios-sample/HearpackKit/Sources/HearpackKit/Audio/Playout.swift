/// Where every sample went. All in samples, but for `underruns`.
public struct PlayoutCounts: Equatable, Sendable {
    /// Given to `write`; taken in; not taken in for want of room.
    public let offered: Int
    public let written: Int
    public let dropped: Int
    /// Gone past the reader; still inside.
    public let consumed: Int
    public let held: Int
    /// Outputs with audio; while filling; missing in mid-stream; after the end.
    public let played: Int
    public let silence: Int
    public let underrun: Int
    public let tail: Int
    /// Reads that found too little.
    public let underruns: Int
}

/// The playout ring of streaming/core/playout.py, to the bit: prefill, drift correction by a cubic reader, every sample counted.
///
/// Samples are at the device's rate. One thread writes, one reads, without lock or allocation.
public final class PlayoutRing: @unchecked Sendable {
    public let capacitySamples: Int
    public let prefillSamples: Int
    public let deadbandSamples: Int
    public let driftCorrection: Bool

    private static let one: Int64 = 1 << 32
    private static let settleReads = 256
    private static let adjustPerSample: Int64 = 8_590
    private static let adjustLimit: Int64 = 2_147_483

    private enum Counter: Int, CaseIterable {
        case written, index, dropped, played, silence, underrun, tail, underruns, ended, adjust
    }

    private let store: UnsafeMutablePointer<Float>
    private let mask: Int
    private let counters: Counters<Counter>

    // The reader's own.
    private var playing = false
    private var reads = 0
    private var average: Int64 = 0
    private var target: Int64 = 0
    private var adjust: Int64 = 0
    private var fraction: Int64 = 0

    /// - Parameters:
    ///   - capacitySamples: most samples held.
    ///   - prefillSamples: samples held before playing begins.
    ///   - deadbandSamples: how far the average level may wander before the reader's speed follows; half the larger of
    ///     the writer's and the reader's blocks keeps their beat out of it.
    ///   - driftCorrection: false plays every sample as it is, whatever the level.
    /// - Throws: `usage`: prefill above capacity, or a figure out of range.
    public init(capacitySamples: Int, prefillSamples: Int, deadbandSamples: Int, driftCorrection: Bool = true) throws {
        guard (4...(1 << 22)).contains(capacitySamples) else {
            throw HearpackError.usage("playout: capacity must be 4 to \(1 << 22) samples, got \(capacitySamples)")
        }
        guard (0...capacitySamples).contains(prefillSamples), deadbandSamples >= 0 else {
            throw HearpackError.usage(
                "playout: prefill must be 0 to the capacity of \(capacitySamples) and deadband at least 0 samples, got "
                    + "\(prefillSamples) and \(deadbandSamples)")
        }
        self.capacitySamples = capacitySamples
        self.prefillSamples = prefillSamples
        self.deadbandSamples = deadbandSamples
        self.driftCorrection = driftCorrection
        var size = 1
        while size < capacitySamples + 1 { size *= 2 }  // one more: the sample before the reader
        mask = size - 1
        store = .allocate(capacity: size)
        counters = Counters()
        reset()
    }

    deinit {
        store.deallocate()
        counters.deallocate()
    }

    /// Empty, filling, all counts zero. Only while neither side is running.
    public func reset() {
        for counter in Counter.allCases { counters.store(counter, 0) }
        store.update(repeating: 0, count: mask + 1)
        fill()
    }

    /// Samples held.
    public var level: Int { counters.load(.written) - counters.load(.index) }

    /// How much faster (positive) or slower than the writer's clock the reader runs now.
    public var adjustPpm: Double { Double(counters.load(.adjust)) / Double(Self.one) * 1e6 }

    public var counts: PlayoutCounts {
        PlayoutCounts(
            offered: counters.load(.written) + counters.load(.dropped), written: counters.load(.written),
            dropped: counters.load(.dropped), consumed: counters.load(.index), held: level,
            played: counters.load(.played), silence: counters.load(.silence),
            underrun: counters.load(.underrun), tail: counters.load(.tail), underruns: counters.load(.underruns))
    }

    /// Writer: take in what fits.
    ///
    /// - Returns: samples dropped.
    /// - Throws: `audio`: NaN or Inf, nothing is taken in; `usage`: the stream was finished.
    @discardableResult
    public func write(_ block: UnsafeBufferPointer<Float>) throws -> Int {
        guard counters.load(.ended) == 0 else {
            throw HearpackError.usage("playout: the stream was finished; call reset() before the next block")
        }
        let written = counters.load(.written)
        var bad: UInt32 = 0
        for sample in block { bad |= (sample.bitPattern & 0x7f80_0000) == 0x7f80_0000 ? 1 : 0 }
        if bad != 0, let at = block.firstIndex(where: { !$0.isFinite }) {
            throw HearpackError.audio(
                "playout: sample \(written + at) is NaN or Inf, expected finite numbers; nothing was taken in")
        }
        let count = min(block.count, capacitySamples - (written - counters.load(.index)))
        for i in 0..<count { store[(written + i) & mask] = block[i] }
        counters.store(.written, written + count)
        let dropped = block.count - count
        if dropped > 0 { counters.store(.dropped, counters.load(.dropped) + dropped) }
        return dropped
    }

    /// Writer: no more is written; what is held plays to its end, and what follows is tail, not underrun.
    public func finish() { counters.store(.ended, 1) }

    /// Reader: the device's next block, always filled to its end.
    public func read(_ out: Block) {
        let ended = counters.load(.ended) != 0  // before the level: what was written before the end is then seen
        let index = counters.load(.index)
        let level = counters.load(.written) - index
        var count = 0
        defer { for i in count..<out.count { out[i] = 0 } }
        if !playing {
            if level < prefillSamples && !ended {
                counters.store(.silence, counters.load(.silence) + out.count)
                return
            }
            playing = true
            average = Int64(level) << 16
        }
        if driftCorrection { control(level, ended) }
        count = playable(out.count, level, ended)
        if count > 0 {
            play(out, count, index, level)
            counters.store(.played, counters.load(.played) + count)
        }
        let missing = out.count - count
        if missing > 0 && ended {
            counters.store(.tail, counters.load(.tail) + missing)
        } else if missing > 0 {
            counters.store(.underrun, counters.load(.underrun) + missing)
            counters.store(.underruns, counters.load(.underruns) + 1)
            fill()
        }
    }

    private func fill() {
        playing = false
        (reads, average, target, adjust, fraction) = (0, 0, 0, 0, 0)
        counters.store(.adjust, 0)
    }

    private func control(_ level: Int, _ ended: Bool) {
        average += ((Int64(level) << 16) - average) >> 6
        reads += 1
        if reads == Self.settleReads { target = average }
        if reads <= Self.settleReads || ended { return }
        var error = average - target
        let free = Int64(deadbandSamples) << 16
        error = error > 0 ? max(error - free, 0) : min(error + free, 0)
        adjust = max(-Self.adjustLimit, min(Self.adjustLimit, (error * Self.adjustPerSample) >> 16))
        counters.store(.adjust, Int(adjust))
    }

    /// How many of the next outputs the samples held allow.
    private func playable(_ frames: Int, _ level: Int, _ ended: Bool) -> Int {
        let ahead = (fraction != 0 || adjust != 0) && !ended ? 2 : 0
        let room = level - 1 - ahead
        if room < 0 { return 0 }
        let places = (Int64(room) << 32) + Self.one - 1 - fraction
        return min(frames, Int(places / (Self.one + adjust)) + 1)
    }

    private func play(_ out: Block, _ count: Int, _ index: Int, _ level: Int) {
        let step = Self.one + adjust
        if fraction == 0 && adjust == 0 {
            for i in 0..<count { out[i] = store[(index + i) & mask] }
            counters.store(.index, index + min(count, level))
            return
        }
        var place = fraction
        for i in 0..<count {
            let whole = Int(place >> 32)
            let t = Double(place & (Self.one - 1)) / 4_294_967_296.0
            let ym1 = at(whole - 1, index, level)
            let y0 = at(whole, index, level)
            let y1 = at(whole + 1, index, level)
            let y2 = at(whole + 2, index, level)
            let c1 = ((y1 - ym1 / 3.0) - y0 / 2.0) - y2 / 6.0
            let c2 = (ym1 + y1) / 2.0 - y0
            let c3 = (y2 - ym1) / 6.0 + (y0 - y1) / 2.0
            out[i] = Float(((c3 * t + c2) * t + c1) * t + y0)
            place += step
        }
        counters.store(.index, index + min(Int(place >> 32), level))
        fraction = place & (Self.one - 1)
    }

    /// A sample at an offset from the reader; zero past what was written.
    @inline(__always)
    private func at(_ offset: Int, _ index: Int, _ level: Int) -> Double {
        offset >= level ? 0 : Double(store[(index + offset) & mask])
    }
}
