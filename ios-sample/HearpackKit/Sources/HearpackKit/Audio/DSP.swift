import Foundation

// The plain DSP of streaming/core/dsp.py, to the bit: float64 in the order written there (Swift does not fuse multiply and
// add by itself), constants on grids, rounded to float32 once. Everything works in place and allocates nothing.

/// Adding and taking away 1.5 * 2^52 rounds half to even.
@inline(__always)
private func wholeHalfEven(_ value: Double) -> Double { (value + 6_755_399_441_055_744.0) - 6_755_399_441_055_744.0 }

/// The nearest multiple of 2^-bits, halves to even.
func onGrid(_ value: Double, _ bits: Int) -> Double {
    let scale = Double(sign: .plus, exponent: bits, significand: 1)
    return (value * scale).rounded(.toNearestOrEven) / scale
}

/// Sum of squares in units of 2^-30, exact; samples saturate at +-4.0.
func energy(_ block: UnsafeBufferPointer<Float>) -> Int64 {
    var total: Int64 = 0
    for sample in block {
        let unit = Int64(max(-131_072.0, min(131_072.0, wholeHalfEven(Double(sample) * 32_768.0))))
        total += unit * unit
    }
    return total
}

/// What an input meter shows.
public struct InputLevel: Equatable, Sendable {
    /// Largest |sample|, full scale 1.0.
    public let peak: Float
    /// 0 dBFS is a mean square of 1.0; -infinity for silence.
    public let rmsDbfs: Double
}

/// Level of what came since the last reading.
public struct InputMeter: Sendable {
    private var units: Int64 = 0
    private var samples: Int64 = 0
    private var peak: Float = 0

    public init() {}

    public mutating func push(_ block: UnsafeBufferPointer<Float>) {
        units &+= energy(block)
        samples += Int64(block.count)
        for sample in block { peak = max(peak, abs(sample)) }
    }

    /// The level since the last reading, which begins anew.
    public mutating func read() -> InputLevel {
        let rms = units > 0 && samples > 0 ? 10.0 * log10(Double(units) / (Double(samples) * 1_073_741_824.0)) : -.infinity
        let level = InputLevel(peak: peak, rmsDbfs: rms)
        self = InputMeter()
        return level
    }
}

struct HighpassFilter {
    let b: Double
    let a1: Double
    let a2: Double
    private var (x1, x2, y1, y2) = (0.0, 0.0, 0.0, 0.0)

    init(cutoffHz: Double, sampleRateHz: Int) {
        let root2 = 2.0.squareRoot()
        let t = tan(Double.pi * cutoffHz / Double(sampleRateHz))
        let n = 1.0 / (1.0 + root2 * t + t * t)
        b = onGrid(n, 40)
        a1 = onGrid(2.0 * (t * t - 1.0) * n, 40)
        a2 = onGrid((1.0 - root2 * t + t * t) * n, 40)
    }

    mutating func reset() { (x1, x2, y1, y2) = (0, 0, 0, 0) }

    mutating func process(_ block: SampleBlock) {
        let twice = 2.0 * b
        for i in block.indices {
            let x = Double(block[i])
            let v = (b * x - twice * x1) + b * x2
            var y = (v - a1 * y1) - a2 * y2
            if abs(y) < 1e-30 { y = 0 }
            (x2, x1, y2, y1) = (x1, x, y1, y)
            block[i] = Float(y)
        }
    }
}

struct FixedGain {
    let factor: Double

    init(db: Double) { factor = onGrid(pow(10.0, db / 20.0), 20) }

    func process(_ block: SampleBlock) {
        for i in block.indices { block[i] = Float(Double(block[i]) * factor) }
    }
}

struct WindowGate {
    let limit: Int64
    private let hold: Int
    private var left = 0

    init(thresholdDbfs: Double, holdWindows: Int, windowSamples: Int) throws {
        guard windowSamples <= 1 << 18 else {
            throw HearpackError.bundle("gate: a window may have \(1 << 18) samples at most, got \(windowSamples)")
        }
        limit = Int64(windowSamples) * Int64((pow(10.0, thresholdDbfs / 10.0) * 1_099_511_627_776.0).rounded(.toNearestOrEven))
        hold = holdWindows
    }

    mutating func reset() { left = 0 }

    /// Whether this window, the next of the stream, is given to the net.
    mutating func opens(_ window: UnsafeBufferPointer<Float>) -> Bool {
        if energy(window) << 10 >= limit {
            left = hold
            return true
        }
        left -= 1
        return left >= 0
    }
}

/// How much of the input stays: what the net was given goes in with `feed`, before the output that belongs to it.
struct WetDryMix {
    let dry: Double
    private let delay: Int
    private var held: [Float]
    private var begin = 0
    private var end: Int

    /// - Parameter room: most samples that are fed before their output is processed; more makes it grow.
    init(attenuationLimitDb: Double, delaySamples: Int, room: Int) {
        dry = onGrid(pow(10.0, -attenuationLimitDb / 20.0), 20)
        delay = delaySamples
        held = [Float](repeating: 0, count: delaySamples + max(1, room))
        end = delaySamples
    }

    mutating func reset() {
        (begin, end) = (0, delay)
        for i in 0..<delay { held[i] = 0 }
    }

    mutating func feed(_ block: UnsafeBufferPointer<Float>) {
        if end + block.count > held.count {
            for i in begin..<end { held[i - begin] = held[i] }
            (begin, end) = (0, end - begin)
            while end + block.count > held.count { held.append(0) }
        }
        for i in 0..<block.count { held[end + i] = block[i] }
        end += block.count
    }

    mutating func process(_ enhanced: SampleBlock) throws {
        guard enhanced.count <= end - begin else {
            throw HearpackError.usage("wet_dry: \(enhanced.count) samples of output, but only \(end - begin) of input were fed")
        }
        let wet = 1.0 - dry
        for i in enhanced.indices { enhanced[i] = Float(wet * Double(enhanced[i]) + dry * Double(held[begin + i])) }
        begin += enhanced.count
    }
}

struct PeakLimiter {
    let ceiling: Double
    let release: Double
    private var gain = 1.0

    init(ceilingDbfs: Double, releaseMs: Double, sampleRateHz: Int) {
        ceiling = onGrid(pow(10.0, ceilingDbfs / 20.0), 20)
        release = onGrid(1.0 - exp(-1.0 / (releaseMs * Double(sampleRateHz) / 1_000.0)), 30)
    }

    mutating func reset() { gain = 1.0 }

    mutating func process(_ block: SampleBlock) {
        for i in block.indices {
            let x = Double(block[i])
            let p = abs(x)
            gain = gain + (1.0 - gain) * release
            if 1.0 - gain < 1.0 / 1_048_576.0 { gain = 1.0 }
            if p > ceiling && gain > ceiling / p { gain = ceiling / p }
            block[i] = Float(x * gain)
        }
    }
}

/// The stages before the net, the bound of what it may be given, and the meter behind them.
public struct InputChain {
    public var meter = InputMeter()
    private var bound = InputBound()
    private var highpass: HighpassFilter?
    private var gain: FixedGain?

    public init(_ stages: [DSPStage]?, sampleRateHz: Int) {
        for stage in stages ?? [] {
            if case .highpass(let cutoff) = stage { highpass = HighpassFilter(cutoffHz: cutoff, sampleRateHz: sampleRateHz) }
            if case .gain(let db) = stage { gain = FixedGain(db: db) }
        }
    }

    /// Samples since reset that were limited: a filter overshot, or `gain` lifted them.
    public var limitedSamples: Int { bound.limitedSamples }

    public mutating func reset() {
        meter = InputMeter()
        bound = InputBound()
        highpass?.reset()
    }

    public mutating func process(_ block: SampleBlock) {
        highpass?.process(block)
        gain?.process(block)
        bound.process(block)
        meter.push(UnsafeBufferPointer(block))
    }
}

/// The stages after an enhancer.
public struct OutputChain {
    private var mix: WetDryMix?
    private var limiter: PeakLimiter?

    public init(_ stages: [DSPStage]?, sampleRateHz: Int, delaySamples: Int, room: Int) {
        for stage in stages ?? [] {
            if case .wetDry(let limit) = stage {
                mix = WetDryMix(attenuationLimitDb: limit, delaySamples: delaySamples, room: room)
            }
            if case .limiter(let ceiling, let release) = stage {
                limiter = PeakLimiter(ceilingDbfs: ceiling, releaseMs: release, sampleRateHz: sampleRateHz)
            }
        }
    }

    public mutating func reset() {
        mix?.reset()
        limiter?.reset()
    }

    /// What goes into the net, before the output that belongs to it.
    public mutating func feed(_ block: UnsafeBufferPointer<Float>) { mix?.feed(block) }

    public mutating func process(_ enhanced: SampleBlock) throws {
        try mix?.process(enhanced)
        limiter?.process(enhanced)
    }
}

/// A windowed classifier behind a gate: zeros for the scores of windows that are not given to it.
public final class GatedEngine: InferenceEngine {
    public var signature: GraphSignature { engine.signature }
    public var info: EngineInfo { engine.info }
    /// Windows spared since `reset`.
    public private(set) var skipped = 0

    private let engine: any InferenceEngine
    private var gate: WindowGate

    /// The engine behind the gate that `dsp` asks for, or as it is.
    public static func wrap(_ engine: any InferenceEngine, _ manifest: Manifest) throws -> any InferenceEngine {
        for case .gate(let threshold, let hold) in manifest.dsp ?? [] {
            let gate = try WindowGate(
                thresholdDbfs: threshold, holdWindows: hold, windowSamples: manifest.buffer.samples)
            return GatedEngine(engine, gate)
        }
        return engine
    }

    init(_ engine: any InferenceEngine, _ gate: WindowGate) {
        self.engine = engine
        self.gate = gate
    }

    public func reset() throws {
        gate.reset()
        skipped = 0
        try engine.reset()
    }

    public func step(
        _ block: UnsafeBufferPointer<Float>, _ state: StreamState, into outputs: inout [[Float]],
        next: inout StreamState
    ) throws {
        if gate.opens(block) { return try engine.step(block, state, into: &outputs, next: &next) }
        skipped += 1
        for output in outputs.indices {
            for i in outputs[output].indices { outputs[output][i] = 0 }
        }
    }
}
