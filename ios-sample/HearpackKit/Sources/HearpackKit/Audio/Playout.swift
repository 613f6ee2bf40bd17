/// Where every sample went. All in samples, but for `underruns`.
public struct PlayoutCounts: Equatable, Sendable {
    /// Given to `write`; taken in; not taken in for want of room.
    public let offered: Int
    public let written: Int
    public let dropped: Int
    /// Gone past the reader; still inside.
    public let consumed: Int
    public let held: Int
    /// Of the consumed, cut out to get back to the usual level.
    public let trimmed: Int
    /// Outputs with audio; while filling; missing in mid-stream; after the end.
    public let played: Int
    public let silence: Int
    public let underrun: Int
    public let tail: Int
    /// Reads that found too little.
    public let underruns: Int
}

/// The playout ring of streaming/core/playout.py, to the bit: prefill, recovery from hiccups, drift correction by a cubic
/// reader, every sample counted.
///
/// Samples are at the device's rate, times in ns of one clock. One thread writes, one reads, without lock or allocation.
public final class PlayoutRing: @unchecked Sendable {
    public let capacitySamples: Int
    public var prefillSamples: Int { counters.load(.prefill) }
    public private(set) var deadbandSamples: Int
    public let toleranceSamples: Int
    public let rateHz: Int
    public let driftCorrection: Bool

    private static let one = PlayoutControl.one

    private enum Counter: Int, CaseIterable {
        case written, index, dropped, trimmed, played, silence, underrun, tail, underruns, ended
        case playing, begins, cuts, readNs, readFrames  // the reader's, for the writer
        case prefill
        case adjust, cut, rest, epoch  // the writer's, for the reader: as of the reader's begins and cuts of `epoch`
    }

    private let store: UnsafeMutablePointer<Float>
    private let mask: Int
    private let counters: Counters<Counter>

    private var fraction: Int64 = 0  // the reader's own

    // The writer's own.
    private var control: PlayoutControl
    private var begun = 0
    private var cutsSeen = 0

    /// - Parameters:
    ///   - capacitySamples: most samples held.
    ///   - prefillSamples: samples held before playing begins.
    ///   - deadbandSamples: how far the average level may wander before the reader's speed follows; see `deadband`.
    ///   - toleranceSamples: how far a level may lie above the usual one; what a buffer of the model gives.
    ///   - rateHz: the device's rate.
    ///   - driftCorrection: false plays every sample as it is, whatever the level.
    /// - Throws: `usage`: prefill above capacity, or a figure out of range.
    public init(
        capacitySamples: Int, prefillSamples: Int, deadbandSamples: Int, toleranceSamples: Int, rateHz: Int,
        driftCorrection: Bool = true
    ) throws {
        guard (4...(1 << 22)).contains(capacitySamples) else {
            throw HearpackError.usage("playout: capacity must be 4 to \(1 << 22) samples, got \(capacitySamples)")
        }
        guard (0...capacitySamples).contains(prefillSamples), deadbandSamples >= 0, toleranceSamples >= 0 else {
            throw HearpackError.usage(
                "playout: prefill must be 0 to the capacity of \(capacitySamples), deadband and tolerance at least 0 "
                    + "samples, got \(prefillSamples), \(deadbandSamples) and \(toleranceSamples)")
        }
        guard (4_000...192_000).contains(rateHz) else {
            throw HearpackError.usage("playout: rate must be 4000 to 192000 Hz, got \(rateHz)")
        }
        self.capacitySamples = capacitySamples
        self.deadbandSamples = deadbandSamples
        self.toleranceSamples = toleranceSamples
        self.rateHz = rateHz
        self.driftCorrection = driftCorrection
        control = PlayoutControl(
            rateHz: rateHz, prefill: prefillSamples, deadband: deadbandSamples, tolerance: toleranceSamples,
            driftCorrection: driftCorrection)
        var size = 1
        while size < capacitySamples + 1 { size *= 2 }  // one more: the sample before the reader
        mask = size - 1
        store = .allocate(capacity: size)
        counters = Counters()
        counters.store(.prefill, prefillSamples)
        reset()
    }

    deinit {
        store.deallocate()
        counters.deallocate()
    }

    /// Empty, filling, all counts zero. Only while neither side is running.
    public func reset() {
        for counter in Counter.allCases where counter != .prefill { counters.store(counter, 0) }
        store.update(repeating: 0, count: mask + 1)
        (fraction, begun, cutsSeen) = (0, 0, 0)
        control = PlayoutControl(
            rateHz: rateHz, prefill: prefillSamples, deadband: deadbandSamples, tolerance: toleranceSamples,
            driftCorrection: driftCorrection)
        publish()
    }

    /// Writer, before its first write: what to hold before playing begins, and the dead band, once it is known how the device
    /// brings its audio.
    ///
    /// - Throws: `usage`: something was written, or a figure is out of range.
    public func prepare(prefillSamples: Int, deadbandSamples: Int) throws {
        guard counters.load(.written) == 0, (0...capacitySamples).contains(prefillSamples), deadbandSamples >= 0 else {
            throw HearpackError.usage(
                "playout: prefill (0 to \(capacitySamples)) and dead band are set before the first write, got "
                    + "\(prefillSamples) and \(deadbandSamples) after \(counters.load(.written)) samples")
        }
        self.deadbandSamples = deadbandSamples
        control = PlayoutControl(
            rateHz: rateHz, prefill: prefillSamples, deadband: deadbandSamples, tolerance: toleranceSamples,
            driftCorrection: driftCorrection)
        counters.store(.prefill, prefillSamples)
    }

    /// Samples held.
    public var level: Int { counters.load(.written) - counters.load(.index) }

    /// How much faster (positive) or slower than the writer's clock the reader runs now.
    public var adjustPpm: Double { Double(adjust) / Double(Self.one) * 1e6 }

    private var isCurrent: Bool { counters.load(.epoch) == counters.load(.begins) + counters.load(.cuts) }
    private var adjust: Int64 { Int64(counters.load(isCurrent ? .adjust : .rest)) }

    public var counts: PlayoutCounts {
        PlayoutCounts(
            offered: counters.load(.written) + counters.load(.dropped), written: counters.load(.written),
            dropped: counters.load(.dropped), consumed: counters.load(.index), held: level,
            trimmed: counters.load(.trimmed),
            played: counters.load(.played), silence: counters.load(.silence),
            underrun: counters.load(.underrun), tail: counters.load(.tail), underruns: counters.load(.underruns))
    }

    /// Writer: take in what fits; it is `timeNs`.
    ///
    /// - Returns: samples dropped.
    /// - Throws: `audio`: NaN or Inf, nothing is taken in; `usage`: the stream was finished.
    @discardableResult
    public func write(_ block: UnsafeBufferPointer<Float>, _ timeNs: Int64) throws -> Int {
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
        if count > 0 && counters.load(.playing) != 0 { look(count, timeNs) }
        return dropped
    }

    private func look(_ count: Int, _ timeNs: Int64) {
        let begins = counters.load(.begins)
        let cuts = counters.load(.cuts)
        while begun < begins {
            begun += 1
            control.begin()
        }
        if cutsSeen < cuts {
            cutsSeen = cuts
            control.restart()
        }
        let frames = counters.load(.readFrames)
        let since = max(0, min(1_000_000_000, Int(timeNs) - counters.load(.readNs)))
        let used = min(since * rateHz / 1_000_000_000, frames)
        control.write(count, level: level + frames - used, frames: frames)
        publish()
    }

    private func publish() {
        counters.store(.adjust, Int(control.adjust))
        counters.store(.cut, control.cut)
        counters.store(.rest, Int(control.rest))
        counters.store(.epoch, begun + cutsSeen)
    }

    /// Writer: no more is written; what is held plays to its end, and what follows is tail, not underrun.
    public func finish() { counters.store(.ended, 1) }

    /// Reader: the device's next block, always filled to its end; it is `timeNs`.
    public func read(_ out: SampleBlock, _ timeNs: Int64) {
        let ended = counters.load(.ended) != 0  // before the level: what was written before the end is then seen
        let index = counters.load(.index)
        let level = counters.load(.written) - index
        var count = 0
        defer { for i in count..<out.count { out[i] = 0 } }
        if counters.load(.playing) == 0 {
            if level < prefillSamples && !ended {
                counters.store(.silence, counters.load(.silence) + out.count)
                return
            }
            counters.store(.begins, counters.load(.begins) + 1)
            counters.store(.playing, 1)
        }
        counters.store(.readNs, Int(timeNs))
        counters.store(.readFrames, out.count)
        let adjust = self.adjust
        let cut = isCurrent ? counters.load(.cut) : 0
        if cut > 0 && !ended && level - cut >= out.count + (out.count >> 9) + 4 {
            makeCut(out, index, level, adjust, cut)
            count = out.count
            return
        }
        count = playable(out.count, level, ended, adjust)
        if count > 0 {
            play(out, count, index, level, adjust)
            counters.store(.played, counters.load(.played) + count)
        }
        let missing = out.count - count
        if missing > 0 && ended {
            counters.store(.tail, counters.load(.tail) + missing)
        } else if missing > 0 {
            counters.store(.underrun, counters.load(.underrun) + missing)
            counters.store(.underruns, counters.load(.underruns) + 1)
            counters.store(.playing, 0)
            fraction = 0
        }
    }

    /// How many of the next outputs the samples held allow.
    private func playable(_ frames: Int, _ level: Int, _ ended: Bool, _ adjust: Int64) -> Int {
        let ahead = (fraction != 0 || adjust != 0) && !ended ? 2 : 0
        let room = level - 1 - ahead
        if room < 0 { return 0 }
        let places = (Int64(room) << 32) + Self.one - 1 - fraction
        return min(frames, Int(places / (Self.one + adjust)) + 1)
    }

    private func play(_ out: SampleBlock, _ count: Int, _ index: Int, _ level: Int, _ adjust: Int64) {
        if fraction == 0 && adjust == 0 {
            for i in 0..<count { out[i] = store[(index + i) & mask] }
            counters.store(.index, index + min(count, level))
            return
        }
        var place = fraction
        for i in 0..<count {
            out[i] = output(place, index, level, false)
            place += Self.one + adjust
        }
        counters.store(.index, index + min(Int(place >> 32), level))
        fraction = place & (Self.one - 1)
    }

    /// A read across a cut: what would come here fades into what comes after it.
    private func makeCut(_ out: SampleBlock, _ index: Int, _ level: Int, _ adjust: Int64, _ cut: Int) {
        let whole = fraction == 0 && adjust == 0
        var place = fraction
        for i in 0..<out.count {
            let fade = Double(i + 1) / Double(out.count + 1)
            let here = Double(output(place, index, level, whole))
            let later = Double(output(place + Int64(cut) << 32, index, level, whole))
            out[i] = Float(here * (1.0 - fade) + later * fade)
            place += Self.one + adjust
        }
        fraction = place & (Self.one - 1)
        counters.store(.played, counters.load(.played) + out.count)
        counters.store(.trimmed, counters.load(.trimmed) + cut)
        counters.store(.cuts, counters.load(.cuts) + 1)
        counters.store(.index, index + cut + Int(place >> 32))
    }

    @inline(__always)
    private func output(_ place: Int64, _ index: Int, _ level: Int, _ whole: Bool) -> Float {
        let k = Int(place >> 32)
        if whole { return store[(index + k) & mask] }
        let t = Double(place & (Self.one - 1)) / 4_294_967_296.0
        let ym1 = at(k - 1, index, level)
        let y0 = at(k, index, level)
        let y1 = at(k + 1, index, level)
        let y2 = at(k + 2, index, level)
        let c1 = ((y1 - ym1 / 3.0) - y0 / 2.0) - y2 / 6.0
        let c2 = (ym1 + y1) / 2.0 - y0
        let c3 = (y2 - ym1) / 6.0 + (y0 - y1) / 2.0
        return Float(((c3 * t + c2) * t + c1) * t + y0)
    }

    /// A sample at an offset from the reader; zero past what was written.
    @inline(__always)
    private func at(_ offset: Int, _ index: Int, _ level: Int) -> Double {
        offset >= level ? 0 : Double(store[(index + offset) & mask])
    }
}
