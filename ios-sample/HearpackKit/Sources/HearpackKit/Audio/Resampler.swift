import Foundation

/// The one resampler of everything that streams: streaming/core/resample.py, to the bit.
///
/// A polyphase FIR whose taps lie on a grid of 2^-24 and whose input lies on a grid of 2^-25: every sum is exact in
/// float64, so order of summation, vector width and partition of the input cannot change a bit. Equal rates hand the
/// input through. No allocation after init (odd ratios fill their table of taps as phases first occur).
public final class Resampler {
    public static let rates = 4_000...192_000

    public let inRateHz: Int
    public let outRateHz: Int
    /// out / in in lowest terms, L / M.
    public let up: Int
    public let down: Int
    /// Group delay in output samples: always whole.
    public let delayOutSamples: Int
    /// K, input samples an output is made of.
    public let tapsPerOutput: Int
    public private(set) var inSamples = 0
    public private(set) var outSamples = 0

    private static let halfWidth = 24
    private static let cutoff = 0.94
    private static let beta = 8.2
    private static let i0Terms = 32
    private static let tapScale = 16_777_216.0
    private static let inputScale = 33_554_432.0
    private static let saturation = 4.0
    private static let piece = 4_096
    private static let denseEntries = 1 << 18

    private let table: UnsafeMutablePointer<Float>
    private let known: UnsafeMutablePointer<Bool>
    private let line: UnsafeMutablePointer<Double>
    private let lineCapacity: Int
    private var filled = 0
    private var origin = 0
    private var ended = false

    /// - Parameters:
    ///   - inRateHz: rate of the blocks given, 4,000 to 192,000.
    ///   - outRateHz: rate of the blocks returned, 4,000 to 192,000.
    /// - Throws: `usage` if a rate is out of range.
    public init(inRateHz: Int, outRateHz: Int) throws {
        for (name, rate) in [("in_rate_hz", inRateHz), ("out_rate_hz", outRateHz)] where !Self.rates.contains(rate) {
            throw HearpackError.usage(
                "resampler: \(name) must be \(Self.rates.lowerBound) to \(Self.rates.upperBound) Hz, got \(rate)")
        }
        let divisor = Self.greatestCommonDivisor(inRateHz, outRateHz)
        let up = outRateHz / divisor
        let down = inRateHz / divisor
        let same = up == down
        let widest = max(up, down)
        let delay = same ? 0 : (Self.halfWidth * widest + down - 1) / down
        let taps = same ? 1 : (delay * down + Self.halfWidth * widest) / up + 1
        self.inRateHz = inRateHz
        self.outRateHz = outRateHz
        self.up = up
        self.down = down
        delayOutSamples = delay
        tapsPerOutput = taps
        lineCapacity = taps + Self.piece
        line = .allocate(capacity: lineCapacity)
        table = .allocate(capacity: same ? 1 : up * taps)
        known = .allocate(capacity: up)
        known.initialize(repeating: false, count: up)
        if !same && up * taps <= Self.denseEntries {
            for phase in 0..<up { fill(phase) }
        }
        reset()
    }

    deinit {
        line.deallocate()
        table.deallocate()
        known.deallocate()
    }

    /// Group delay in milliseconds.
    public var delayMs: Double { 1_000.0 * Double(delayOutSamples) / Double(outRateHz) }

    /// Begin a new stream: silence before sample 0.
    public func reset() {
        inSamples = 0
        outSamples = 0
        ended = false
        line.update(repeating: 0, count: lineCapacity)
        origin = 1 - tapsPerOutput
        filled = tapsPerOutput - 1
    }

    /// Most samples that a block of `count` can complete, and at least what `flush` gives.
    public func mostOutput(for count: Int) -> Int {
        max((count * up + down - 1) / down + 1, delayOutSamples)
    }

    /// Outputs that the new samples complete.
    ///
    /// - Parameters:
    ///   - block: [n], n >= 0, full scale 1.0.
    ///   - out: at least `mostOutput(for: n)` samples.
    /// - Returns: samples written; after n samples in all, ceil(n L / M) have come out in all.
    /// - Throws: `audio` for NaN or Inf (nothing is consumed); `usage` after a flush or where `out` is too small.
    public func process(_ block: UnsafeBufferPointer<Float>, into out: UnsafeMutableBufferPointer<Float>) throws -> Int {
        guard !ended else {
            throw HearpackError.usage("resampler: the stream was flushed; call reset() before the next block")
        }
        guard out.count >= mostOutput(for: block.count) || block.isEmpty else {
            throw HearpackError.usage(
                "resampler: \(block.count) samples may give \(mostOutput(for: block.count)), the target holds \(out.count)")
        }
        try checkBlock(block, atSample: inSamples, sampleRateHz: inRateHz)
        if up == down {
            let limit = InputBound.limit
            for i in block.indices { out[i] = max(-limit, min(limit, block[i])) }
            inSamples += block.count
            outSamples += block.count
            return block.count
        }
        var given = 0
        var start = 0
        while start < block.count {
            let count = min(Self.piece, block.count - start)
            given += run(UnsafeBufferPointer(rebasing: block[start..<start + count]), count, out, given)
            start += count
        }
        return given
    }

    /// The last `delayOutSamples` outputs; the stream then takes no block until reset().
    ///
    /// - Returns: samples written: `delayOutSamples`, or 0 if nothing ever came in.
    public func flush(into out: UnsafeMutableBufferPointer<Float>) throws -> Int {
        if ended || inSamples == 0 || up == down {
            ended = true
            return 0
        }
        guard out.count >= delayOutSamples else {
            throw HearpackError.usage("resampler: flush gives \(delayOutSamples) samples, the target holds \(out.count)")
        }
        ended = true
        let samples = inSamples
        let wanted = outSamples + delayOutSamples
        var given = 0
        while outSamples < wanted {
            let count = min(Self.piece, (wanted - outSamples) * down / up + 1)
            given += run(nil, count, UnsafeMutableBufferPointer(rebasing: out[..<delayOutSamples]), given)
        }
        inSamples = samples
        outSamples = wanted
        return delayOutSamples
    }

    /// `process` with arrays: for files and tests, it allocates.
    public func process(_ block: [Float]) throws -> [Float] {
        let most = mostOutput(for: block.count)
        return try [Float](unsafeUninitializedCapacity: most) { out, count in
            count = try block.withUnsafeBufferPointer { try process($0, into: out) }
        }
    }

    /// `flush` with an array.
    public func flush() throws -> [Float] {
        try [Float](unsafeUninitializedCapacity: max(1, delayOutSamples)) { out, count in count = try flush(into: out) }
    }

    /// One piece: samples (nil: zeros) onto the line, and every output they complete; beyond `out` nothing is written.
    private func run(
        _ block: UnsafeBufferPointer<Float>?, _ count: Int, _ out: UnsafeMutableBufferPointer<Float>, _ at: Int
    ) -> Int {
        let new = line + filled
        if let block {
            let limit = Self.saturation * Self.inputScale
            for i in 0..<count {
                let scaled = max(-limit, min(limit, Double(block[i]) * Self.inputScale))
                new[i] = (scaled + Self.roundsToWhole) - Self.roundsToWhole
            }
        } else {
            new.update(repeating: 0, count: count)
        }
        filled += count
        inSamples += count
        let last = min((inSamples * up + down - 1) / down, outSamples + out.count - at)
        let given = last - outSamples
        for output in outSamples..<last {
            let phase = output * down % up
            if !known[phase] { fill(phase) }
            let taps = table + phase * tapsPerOutput
            let seen = line + (firstInput(output) - origin)
            out[at + output - outSamples] = Float(sum(seen, taps) * (1.0 / (Self.tapScale * Self.inputScale)) + 0.0)
        }
        outSamples = last
        discard()
        return given
    }

    /// Adding and taking away 1.5 * 2^52 rounds half to even, as `rint` does, and vectorises.
    private static let roundsToWhole = 6_755_399_441_055_744.0

    /// Exact whatever the order, so four lanes are as good as one.
    @inline(__always)
    private func sum(_ seen: UnsafePointer<Double>, _ taps: UnsafePointer<Float>) -> Double {
        var lanes = SIMD4<Double>.zero
        var i = 0
        while i + 4 <= tapsPerOutput {
            let x = SIMD4<Double>(seen[i], seen[i + 1], seen[i + 2], seen[i + 3])
            let h = SIMD4<Double>(Double(taps[i]), Double(taps[i + 1]), Double(taps[i + 2]), Double(taps[i + 3]))
            lanes += x * h
            i += 4
        }
        var total = lanes[0] + lanes[1] + lanes[2] + lanes[3]
        while i < tapsPerOutput {
            total += seen[i] * Double(taps[i])
            i += 1
        }
        return total
    }

    /// Absolute index of the oldest input that `output` sees.
    private func firstInput(_ output: Int) -> Int { output * down / up - (tapsPerOutput - 1) }

    /// Move what later outputs still need to the front of the line.
    private func discard() {
        let drop = min(firstInput(outSamples) - origin, filled)
        guard drop > 0 else { return }
        filled -= drop
        line.update(from: line + drop, count: filled)
        origin += drop
    }

    /// Taps of one phase in units of 2^-24, oldest input first; the formula is in streaming/core/resample.py.
    private func fill(_ phase: Int) {
        let widest = max(up, down)
        let row = table + phase * tapsPerOutput
        let atCentre = Self.besselI0(Self.beta)
        // Twice: once for the sum, once for the taps, so that no scratch memory is needed.
        func raw(_ i: Int) -> Double {
            let numerator = delayOutSamples * down - i * up - phase
            guard abs(numerator) <= Self.halfWidth * widest else { return 0 }
            let v = Double(numerator) / Double(widest)
            let edge = v / Double(Self.halfWidth)
            let window = Self.besselI0(Self.beta * (1.0 - edge * edge).squareRoot()) / atCentre
            let angle = Double.pi * v
            return (numerator == 0 ? Self.cutoff : sin(Self.cutoff * angle) / angle) * window
        }
        var total = 0.0
        for i in stride(from: tapsPerOutput - 1, through: 0, by: -1) { total += raw(i) }
        for i in 0..<tapsPerOutput {
            row[tapsPerOutput - 1 - i] = Float((raw(i) / total * Self.tapScale).rounded(.toNearestOrEven))
        }
        known[phase] = true
    }

    private static func besselI0(_ x: Double) -> Double {
        let quarterSquare = x * x / 4.0
        var term = 1.0
        var total = 1.0
        for k in 1...i0Terms {
            term = term * quarterSquare / Double(k * k)
            total += term
        }
        return total
    }

    private static func greatestCommonDivisor(_ a: Int, _ b: Int) -> Int {
        b == 0 ? a : greatestCommonDivisor(b, a % b)
    }
}

/// Throw unless every sample is finite.
///
/// - Parameters:
///   - atSample: position of the block's first sample in the stream, counted from reset.
///   - sampleRateHz: the stream's rate, for the message.
public func checkBlock(_ block: UnsafeBufferPointer<Float>, atSample: Int, sampleRateHz: Int) throws {
    // An exponent of all ones is Inf or NaN; one OR over the block vectorises.
    let exponent: UInt32 = 0x7f80_0000
    var bad: UInt32 = 0
    for sample in block { bad |= (sample.bitPattern & exponent) == exponent ? 1 : 0 }
    guard bad != 0 else { return }
    let wrong = block.indices.filter { !block[$0].isFinite }
    let position = atSample + wrong[0]
    let seconds = String(format: "%.3f", Double(position) / Double(sampleRateHz))
    throw HearpackError.audio(
        "sample \(position) (\(seconds) s from the stream's start) is \(block[wrong[0]]), "
            + "expected finite numbers of full scale 1.0; \(wrong.count) such in this block")
}
