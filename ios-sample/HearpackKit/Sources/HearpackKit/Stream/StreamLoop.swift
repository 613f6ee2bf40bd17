/// Blocks of any size in, fixed buffers into the engine, results out: streaming/core/loop.py, call by call.
///
/// A *step* net takes `bufferSamples` of new audio a call. A *window* net sees that many every `hop`, the first time
/// when that many have come; the overlap is kept here. At the end of a stream zeros are fed once: a step net until its
/// delay has come out (audio cut to exactly `inSamples + delaySamples`), a window net to fill one begun window that
/// holds a sample no window has covered. No allocation after init.
///
/// Output that is not finite never gets out, and never stays: such a call gives silence (scores: nothing), the state goes
/// back to its reset value and the stream goes on, as docs/dsp.md says.
public final class StreamLoop {
    /// Called for each call of the engine: end of what it saw (samples counted from reset), and its values.
    /// The values are only valid during the call.
    public typealias Emit = (_ endSample: Int, _ values: UnsafeBufferPointer<Float>) throws -> Void

    public let engine: any InferenceEngine
    public let manifest: Manifest
    public let bufferSamples: Int
    public let hop: Int
    /// Whether the output is audio as long as the buffer, rather than scores.
    public let audioOut: Bool
    /// Samples taken in since reset, without a flush's zeros.
    public private(set) var inSamples = 0
    /// Input samples, counted from reset, up to the end of what the next call will see.
    public var nextEndSample: Int { start + bufferSamples }
    /// Input samples that the next call still waits for.
    public var missingSamples: Int { skip + bufferSamples - filled }
    /// Calls of the engine since reset.
    public private(set) var calls = 0
    /// Those whose output was not finite; each put the state back to its reset value.
    public private(set) var nanOutputs = 0
    /// The stream's state: a value, taken between blocks.
    public private(set) var state: StreamState

    private let recover: Bool
    private let zero: StreamState
    private var next: StreamState
    private var outputs: [[Float]]
    private let buffer: UnsafeMutableBufferPointer<Float>
    private let silence: UnsafeMutableBufferPointer<Float>
    private var filled = 0
    private var skip = 0
    private var start = 0
    private var outSamples = 0
    private var wanted = Int.max
    private var ended = false

    /// - Parameter recover: false gives output that is not finite as it is and keeps the state: for who judges a net.
    /// - Throws: `usage` if engine and manifest do not fit.
    public init(_ manifest: Manifest, _ engine: any InferenceEngine, recover: Bool = true) throws {
        let samples = manifest.buffer.samples
        let hop = manifest.hopSamples
        guard hop >= 1 else { throw HearpackError.usage("loop: the hop must be at least 1 sample, got \(hop)") }
        guard engine.signature == GraphSignature(manifest) else {
            throw HearpackError.usage("loop: the engine was opened for another manifest than \(manifest.name)")
        }
        self.manifest = manifest
        self.engine = engine
        self.hop = hop
        bufferSamples = samples
        audioOut = manifest.buffer.kind == .step && manifest.outputs[0].shape.last == samples
        self.recover = recover
        zero = StreamState(engine.signature)
        state = zero
        next = StreamState(engine.signature)
        outputs = manifest.outputs.map { [Float](repeating: 0, count: GraphSignature.count($0.shape)) }
        buffer = .allocate(capacity: samples)
        silence = .allocate(capacity: samples)
        buffer.initialize(repeating: 0)
        silence.initialize(repeating: 0)
        try engine.reset()
    }

    deinit {
        buffer.deallocate()
        silence.deallocate()
    }

    /// Begin a new stream: reset state, nothing held.
    public func reset() throws {
        state = zero
        filled = 0
        skip = 0
        start = 0
        outSamples = 0
        wanted = .max
        ended = false
        inSamples = 0
        calls = 0
        nanOutputs = 0
        try engine.reset()
    }

    /// Take in new samples and make every call that is due.
    ///
    /// - Parameters:
    ///   - block: [n] at the model's rate, n >= 0, full scale 1.0.
    ///   - emit: called for each call, in order.
    /// - Throws: `audio` for NaN or Inf (nothing is taken in); `artefact` if the engine failed, and then the stream has
    ///   to be reset; `usage` after a flush.
    public func push(_ block: UnsafeBufferPointer<Float>, _ emit: Emit) throws {
        guard !ended else {
            throw HearpackError.usage("loop: the stream was flushed or has failed; call reset() before the next block")
        }
        try checkBlock(block, atSample: inSamples, sampleRateHz: manifest.geometry.sampleRateHz)
        inSamples += block.count
        try feed(block, emit)
    }

    /// End the stream and give what is still inside; it then takes no block until reset().
    public func flush(_ emit: Emit) throws {
        if ended || inSamples == 0 {
            ended = true
            return
        }
        if manifest.buffer.kind == .step {
            let all = inSamples + manifest.geometry.delaySamples
            var missing = (all + bufferSamples - 1) / bufferSamples * bufferSamples - inSamples
            if audioOut { wanted = all }
            while missing > 0 {
                let count = min(missing, bufferSamples)
                try feed(UnsafeBufferPointer(rebasing: silence[..<count]), emit)
                missing -= count
            }
        } else {
            let covered = calls > 0 ? start - hop + bufferSamples : 0
            if inSamples > max(covered, start) {
                try feed(UnsafeBufferPointer(rebasing: silence[..<(bufferSamples - filled)]), emit)
            }
        }
        ended = true
    }

    private func feed(_ block: UnsafeBufferPointer<Float>, _ emit: Emit) throws {
        guard let source = block.baseAddress, let held = buffer.baseAddress else { return }
        var taken = 0
        while taken < block.count {
            if skip > 0 {
                let count = min(skip, block.count - taken)
                skip -= count
                taken += count
                continue
            }
            let count = min(bufferSamples - filled, block.count - taken)
            (held + filled).update(from: source + taken, count: count)
            filled += count
            taken += count
            if filled == bufferSamples { try call(emit) }
        }
    }

    private func call(_ emit: Emit) throws {
        do {
            try engine.step(UnsafeBufferPointer(buffer), state, into: &outputs, next: &next)
        } catch {
            ended = true
            throw error
        }
        swap(&state, &next)
        calls += 1
        let end = start + bufferSamples
        var count = outputs[0].count
        if audioOut { count = min(count, wanted - outSamples) }
        outSamples += outputs[0].count
        let cut = outputs[0].count - count
        let keep = max(0, bufferSamples - hop)
        if keep > 0, let held = buffer.baseAddress { held.update(from: held + hop, count: keep) }
        filled = keep
        skip = max(0, hop - bufferSamples)
        start += hop
        if recover, !outputs[0].withUnsafeBufferPointer(InputBound.allFinite) {
            nanOutputs += 1
            state = zero
            try engine.reset()
            guard audioOut else { return }
            for i in outputs[0].indices { outputs[0][i] = 0 }
        }
        try outputs[0].withUnsafeBufferPointer { try emit(end - cut, UnsafeBufferPointer(rebasing: $0[..<count])) }
    }
}
