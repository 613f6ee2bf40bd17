/// What switches a stage on: a label of an earlier stage, a classifier.
public struct StageGate: Equatable, Sendable {
    public let stage: Int
    public let label: Int

    public init(stage: Int, label: Int) {
        self.stage = stage
        self.label = label
    }
}

/// One of several nets on a stream.
public struct StageNet {
    public let bundle: ModelBundle
    public let engine: any InferenceEngine
    /// Index of an earlier enhancer whose sound it hears; nil: the stream itself.
    public let hears: Int?
    /// What switches it on; nil: nothing, it is always on.
    public let gate: StageGate?

    public init(_ bundle: ModelBundle, _ engine: any InferenceEngine, hears: Int? = nil, gate: StageGate? = nil) {
        self.bundle = bundle
        self.engine = engine
        self.hears = hears
        self.gate = gate
    }
}

/// Several nets on one stream, each call in an order that no partition of the input changes: streaming/core/stages.py,
/// whose rule this follows. A classifier beside an enhancer or behind it, an enhancer that a classifier switches on:
///
/// ```swift
/// let stages = try Stages(
///     [StageNet(voice, vad), StageNet(clean, enhancer, gate: StageGate(stage: 0, label: 0))], rateHz: 48_000)
/// stages.onAudio = { stage, endSample, samples in play(samples) }
/// try stages.push(block)
/// ```
///
/// Belongs to one thread; no allocation after init while no event is emitted.
public final class Stages {
    /// Called for each call of a stage, those that its gate spares among them, before what it gave.
    public var onCall: ((_ stage: Int, _ endSample: Int) -> Void)?
    /// An enhancer's sound at its rate, lead-in included; valid only during the call.
    public var onAudio: ((_ stage: Int, _ endSample: Int, _ samples: UnsafeBufferPointer<Float>) -> Void)?
    public var onEvent: ((_ stage: Int, _ event: SoundEvent) -> Void)?

    public let rateHz: Int

    private let stages: [Stage]
    private let direct: [Int]
    private var ended = false
    private var ending = false

    /// - Parameters:
    ///   - nets: in their order; at least one.
    ///   - rateHz: rate of the blocks given.
    /// - Throws: `usage`: a net hears or is switched by one that is not earlier, or by one of the wrong kind; `bundle`.
    public init(_ nets: [StageNet], rateHz: Int) throws {
        guard !nets.isEmpty else { throw HearpackError.usage("stages: expected at least one net, got none") }
        self.rateHz = rateHz
        var made: [Stage] = []
        for (index, net) in nets.enumerated() {
            if let hears = net.hears {
                guard made.indices.contains(hears), made[hears].tracker == nil else {
                    throw HearpackError.usage("stages: stage \(index) can hear an enhancer before it only, got \(hears)")
                }
            }
            if let gate = net.gate {
                guard made.indices.contains(gate.stage), made[gate.stage].on.indices.contains(gate.label) else {
                    throw HearpackError.usage(
                        "stages: stage \(index) can be switched by a label of a stage before it only, got \(gate)")
                }
            }
            made.append(try Stage(net, heardHz: net.hears.map { made[$0].rateHz } ?? rateHz))
        }
        stages = made
        direct = nets.indices.filter { nets[$0].hears == nil }
    }

    /// Calls of a stage since reset, those that its gate spared left out.
    public func calls(_ stage: Int) -> Int { stages[stage].loop.calls - (stages[stage].switched?.spared ?? 0) }

    /// Samples that a stage has taken in since reset, at its rate.
    public func inSamples(_ stage: Int) -> Int { stages[stage].loop.inSamples }

    /// Begin a new stream.
    public func reset() throws {
        (ended, ending) = (false, false)
        for stage in stages { try stage.reset() }
    }

    /// Take in new samples and make every call that is due.
    ///
    /// - Parameter block: [n] at `rateHz`, full scale 1.0; what no net may be given is replaced.
    /// - Throws: `artefact` if an engine failed, and then the stream has to be reset; `usage` after a flush.
    public func push(_ block: UnsafeBufferPointer<Float>) throws {
        guard !ended else {
            throw HearpackError.usage("stages: the stream was flushed or has failed; call reset() before the next block")
        }
        ended = true  // should an engine fail on the way
        var taken = 0
        while taken < block.count {
            var count = block.count - taken
            for index in direct { count = min(count, stages[index].wants) }
            for index in direct { try hear(index, UnsafeBufferPointer(rebasing: block[taken..<taken + count])) }
            taken += count
        }
        ended = false
    }

    /// End the stream: what is still inside comes out, what is on is closed.
    public func flush() throws {
        if ended { return }
        (ended, ending) = (true, true)
        for (index, stage) in stages.enumerated() {
            turn(stage)
            try stage.end { try self.give(index, $0, $1) }
            stage.tracker?.flush(endSample: stage.loop.inSamples) { self.onEvent?(index, $0) }
        }
    }

    private func turn(_ stage: Stage) {
        if let gate = stage.net.gate { stage.switched?.isOn = stages[gate.stage].on[gate.label] }
    }

    /// A block for one stage, a call at a time: what a call gives may open the gate of the next one.
    private func hear(_ index: Int, _ block: UnsafeBufferPointer<Float>) throws {
        let stage = stages[index]
        var taken = 0
        while taken < block.count {
            let count = min(block.count - taken, stage.wants)
            turn(stage)
            try stage.push(UnsafeBufferPointer(rebasing: block[taken..<taken + count])) { try self.give(index, $0, $1) }
            taken += count
        }
    }

    private func give(_ index: Int, _ endSample: Int, _ values: UnsafeBufferPointer<Float>) throws {
        let stage = stages[index]
        onCall?(index, endSample)
        if let tracker = stage.tracker {
            try tracker.push(values, windowEndSample: endSample) { event in
                if !ending { stage.on[event.index] = event.offsetSample == nil }
                onEvent?(index, event)
            }
            return
        }
        let sound = try stage.after(values)
        onAudio?(index, endSample, sound)
        let cut = min(stage.leadIn, sound.count)
        stage.leadIn -= cut
        if cut == sound.count { return }
        for later in (index + 1)..<stages.count where stages[later].net.hears == index {
            try hear(later, UnsafeBufferPointer(rebasing: sound[cut...]))
        }
    }
}

/// One net's whole way: bound, resampler, plain DSP, loop, decisions.
private final class Stage {
    let net: StageNet
    let rateHz: Int
    let switched: SwitchedEngine?
    let loop: StreamLoop
    let tracker: DecisionTracker?
    var on: [Bool]
    var leadIn: Int

    private static let piece = 1_024
    private let resampler: Resampler
    private var door = InputBound()
    private var chainIn: InputChain
    private var chainOut: OutputChain
    private let raw: SampleBlock
    private let heard: SampleBlock
    private let sound: SampleBlock

    init(_ net: StageNet, heardHz: Int) throws {
        let manifest = net.bundle.manifest
        self.net = net
        rateHz = manifest.geometry.sampleRateHz
        switched = net.gate == nil ? nil : SwitchedEngine(net.engine)
        resampler = try Resampler(inRateHz: heardHz, outRateHz: rateHz)
        let engine = switched ?? net.engine
        loop = try StreamLoop(manifest, try GatedEngine.wrap(engine, manifest))
        chainIn = InputChain(manifest.dsp, sampleRateHz: rateHz)
        let room = resampler.mostOutput(for: Self.piece)
        chainOut = OutputChain(
            manifest.dsp, sampleRateHz: rateHz, delaySamples: manifest.geometry.delaySamples,
            room: 4 * (room + manifest.buffer.samples))
        if manifest.task == .classifier, let decisions = manifest.decisions {
            let labels = try net.bundle.labels()
            tracker = try DecisionTracker(decisions, labels: labels, sampleRateHz: rateHz)
            on = [Bool](repeating: false, count: labels.count)
        } else {
            tracker = nil
            on = []
        }
        leadIn = manifest.geometry.delaySamples
        raw = .allocate(capacity: Self.piece)
        heard = .allocate(capacity: room)
        sound = .allocate(capacity: GraphSignature.count(manifest.outputs[0].shape))
        for block in [raw, heard, sound] { block.initialize(repeating: 0) }
    }

    deinit {
        for block in [raw, heard, sound] { block.deallocate() }
    }

    /// Samples that it must be given before its next call.
    var wants: Int {
        (resampler.outSamples + loop.missingSamples - 1) * resampler.down / resampler.up + 1 - resampler.inSamples
    }

    func reset() throws {
        resampler.reset()
        door = InputBound()
        chainIn.reset()
        chainOut.reset()
        tracker?.reset()
        for index in on.indices { on[index] = false }
        leadIn = net.bundle.manifest.geometry.delaySamples
        switched?.begin()
        try loop.reset()
    }

    func push(_ block: UnsafeBufferPointer<Float>, _ emit: StreamLoop.Emit) throws {
        var taken = 0
        while taken < block.count, let source = block.baseAddress, let base = raw.baseAddress {
            let count = min(Self.piece, block.count - taken)
            base.update(from: source + taken, count: count)
            let piece = SampleBlock(start: base, count: count)
            door.process(piece)
            try through(try resampler.process(UnsafeBufferPointer(piece), into: heard), emit)
            taken += count
        }
    }

    func end(_ emit: StreamLoop.Emit) throws {
        try through(try resampler.flush(into: heard), emit)
        try loop.flush(emit)
    }

    private func through(_ count: Int, _ emit: StreamLoop.Emit) throws {
        let given = SampleBlock(rebasing: heard[..<count])
        chainIn.process(given)
        chainOut.feed(UnsafeBufferPointer(given))
        try loop.push(UnsafeBufferPointer(given), emit)
    }

    /// A call's sound after the plain DSP.
    func after(_ values: UnsafeBufferPointer<Float>) throws -> UnsafeBufferPointer<Float> {
        guard let from = values.baseAddress, let to = sound.baseAddress else { return values }
        to.update(from: from, count: values.count)
        let given = SampleBlock(start: to, count: values.count)
        try chainOut.process(given)
        return UnsafeBufferPointer(given)
    }
}

/// An engine that is called only while it is on: zeros, and the reset state, while it is not.
final class SwitchedEngine: InferenceEngine {
    var signature: GraphSignature { engine.signature }
    var info: EngineInfo { engine.info }
    /// Whether the next call is made.
    var isOn = false
    /// Calls that were not made since `begin`.
    private(set) var spared = 0

    private let engine: any InferenceEngine
    private var isFresh = false

    init(_ engine: any InferenceEngine) { self.engine = engine }

    func begin() { (isOn, spared, isFresh) = (false, 0, false) }

    func reset() throws { try engine.reset() }

    func step(
        _ block: UnsafeBufferPointer<Float>, _ state: StreamState, into outputs: inout [[Float]],
        next: inout StreamState
    ) throws {
        if isOn {
            isFresh = false
            return try engine.step(block, state, into: &outputs, next: &next)
        }
        spared += 1
        for output in outputs.indices {
            for i in outputs[output].indices { outputs[output][i] = 0 }
        }
        for index in next.tensors.indices {
            next.write(index) { tensor in
                for i in tensor.indices { tensor[i] = 0 }
            }
        }
        if !isFresh { try engine.reset() }
        isFresh = true
    }
}
