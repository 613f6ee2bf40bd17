/// Times every call of an engine and reports it to the recorder. What throws is recorded with its message.
final class TimedEngine: InferenceEngine {
    var signature: GraphSignature { engine.signature }
    var info: EngineInfo { engine.info }
    private(set) var durations = DurationHistogram()
    /// Calls that took longer than the audio they consume lasts.
    private(set) var misses = 0
    /// What `DeviceTrace.Inference` needs and the engine cannot know; set before each block.
    var waitingSamples = 0
    var nextEndSample = 0

    private let engine: any InferenceEngine
    private let clock: any Clock
    private let recorder: TraceRecorder?
    private let budgetNs: Int64
    private(set) var lastEndNs: Int64 = 0

    init(_ engine: any InferenceEngine, _ clock: any Clock, _ recorder: TraceRecorder?, budgetNs: Int64) {
        self.engine = engine
        self.clock = clock
        self.recorder = recorder
        self.budgetNs = budgetNs
    }

    func reset() throws { try engine.reset() }

    func step(
        _ block: UnsafeBufferPointer<Float>, _ state: StreamState, into outputs: inout [[Float]],
        next: inout StreamState
    ) throws {
        let begin = clock.nowNs()
        do {
            try engine.step(block, state, into: &outputs, next: &next)
        } catch {
            let message = translated(error) { .artefact($0) }.message
            record(begin, message)
            throw error
        }
        record(begin, nil)
    }

    private func record(_ begin: Int64, _ error: String?) {
        lastEndNs = clock.nowNs()
        durations.add(lastEndNs - begin)
        if lastEndNs - begin > budgetNs { misses += 1 }
        recorder?.inference(
            DeviceTrace.Inference(
                beginNs: begin, endNs: lastEndNs, endSample: nextEndSample, waitingSamples: waitingSamples,
                warmUp: nil, error: error))
    }
}

extension PlayoutRing {
    /// Samples at the device's rate to hold before playing; without `playout` in the manifest one buffer of the model and
    /// one block of the device.
    public static func prefill(_ manifest: Manifest, deviceRateHz: Int, deviceBlock: Int) -> Int {
        let rate = manifest.geometry.sampleRateHz
        if let playout = manifest.playout { return (playout.prefillSamples * deviceRateHz + rate - 1) / rate }
        return (manifest.buffer.samples * deviceRateHz + rate - 1) / rate + deviceBlock
    }

    /// How far a level may wander: a quarter of a buffer (`hop`, at the device's rate), at most 5 ms.
    ///
    /// - Parameter block: frames of the device's longest callback, as far as it is known.
    public static func deadband(hop: Int, block: Int, rateHz: Int) -> Int { min(max(hop / 4, block / 16), rateHz / 200) }
}

/// The inference side of a stream, on a thread of its own: ring -> resampler -> plain DSP -> loop -> decisions, or
/// -> plain DSP -> resampler -> playout. `pump` does what is due and allocates nothing while no event is emitted.
public final class StreamWorker {
    /// Called on the inference thread for what turned on or off.
    public var onEvent: ((SoundEvent) -> Void)?
    /// Called on the inference thread with an enhancer's output at the model's rate, before the way back.
    public var onAudio: ((UnsafeBufferPointer<Float>) -> Void)?

    public let manifest: Manifest
    public let feed: CaptureFeed
    public let playout: PlayoutRing?
    public let resamplerIn: Resampler
    public let resamplerOut: Resampler?
    public var modelSamples: Int { loop.inSamples }

    private static let piece = 1_024  // device samples taken at a time

    private let loop: StreamLoop
    private let timed: TimedEngine
    private let decisions: DecisionTracker?
    private var door = InputBound()
    private var before: InputChain
    private var after: OutputChain
    public let recorder: TraceRecorder?
    private let clock: any Clock
    private let raw: Block
    private let modelBlock: Block
    private let enhanced: Block
    private let played: Block
    private var scores: [Float]
    private var emittedSamples = 0
    private var lost = 0
    /// Counts of streams before the last reset.
    private var earlier = (limited: 0, nanOutputs: 0)
    private var noticed = 0  // of the loop's calls without a finite output
    private var dropped = 0
    private var waits = DurationHistogram()

    /// - Parameters:
    ///   - bundle: its manifest rules everything: decisions and plain DSP too.
    ///   - engine: an opened artefact, warmed up.
    ///   - feed: the capture side; its `rateHz` is the rate of the samples in its ring.
    ///   - playout: where an enhancer's output goes; nil if it is not to be heard.
    ///   - playoutRateHz: the device's output rate.
    ///   - recorder: gets callbacks, calls, gaps and events; nil for none.
    /// - Throws: `audio`: a rate the resampler does not take; `bundle`, `usage`: parts that do not fit.
    public init(
        _ bundle: ModelBundle, _ engine: any InferenceEngine, feed: CaptureFeed, playout: PlayoutRing? = nil,
        playoutRateHz: Int? = nil, recorder: TraceRecorder? = nil, clock: any Clock
    ) throws {
        let manifest = bundle.manifest
        let rate = manifest.geometry.sampleRateHz
        guard Resampler.rates.contains(feed.rateHz) else {
            throw HearpackError.audio(
                "the microphone gives \(feed.rateHz) Hz, this app takes \(Resampler.rates.lowerBound) to "
                    + "\(Resampler.rates.upperBound); choose another input")
        }
        timed = TimedEngine(
            try GatedEngine.wrap(engine, manifest), clock, recorder,
            budgetNs: Int64(manifest.hopSamples) * 1_000_000_000 / Int64(rate))
        loop = try StreamLoop(manifest, timed)
        resamplerIn = try Resampler(inRateHz: feed.rateHz, outRateHz: rate)
        let room = resamplerIn.mostOutput(for: Self.piece)
        before = InputChain(manifest.dsp, sampleRateHz: rate)
        after = OutputChain(
            manifest.dsp, sampleRateHz: rate, delaySamples: manifest.geometry.delaySamples,
            room: 4 * (room + manifest.buffer.samples))
        if manifest.task == .classifier, let parameters = manifest.decisions {
            decisions = try DecisionTracker(parameters, labels: try bundle.labels(), sampleRateHz: rate)
        } else {
            decisions = nil
        }
        let back = try playoutRateHz.map { try Resampler(inRateHz: rate, outRateHz: $0) }
        resamplerOut = loop.audioOut ? back : nil
        self.playout = loop.audioOut ? playout : nil
        self.manifest = manifest
        self.feed = feed
        self.recorder = recorder
        self.clock = clock
        scores = [Float](repeating: 0, count: GraphSignature.count(manifest.outputs[0].shape))
        raw = .allocate(capacity: Self.piece)
        modelBlock = .allocate(capacity: room)
        enhanced = .allocate(capacity: scores.count)
        played = .allocate(capacity: resamplerOut?.mostOutput(for: scores.count) ?? 1)
        for block in [raw, modelBlock, enhanced, played] { block.initialize(repeating: 0) }
    }

    deinit {
        for block in [raw, modelBlock, enhanced, played] { block.deallocate() }
    }

    /// Do all that is due: every sample in the ring, and every call it completes.
    ///
    /// - Returns: samples taken, at the device's rate; 0 means: wait a little.
    /// - Throws: `audio`, `artefact`: the stream has failed and needs `reset`.
    @discardableResult
    public func pump() throws -> Int {
        noteCapture()
        var taken = 0
        while let base = raw.baseAddress {
            dropOldest()
            let count = feed.ring.read(base, raw.count)
            if count == 0 { break }
            taken += count
            let block = Block(start: base, count: count)
            door.process(block)
            let given = try resamplerIn.process(UnsafeBufferPointer(block), into: modelBlock)
            try push(given)
        }
        return taken
    }

    /// Samples at the model's rate that may wait in the ring: a buffer, and half a second or four hops; docs/dsp.md.
    public static func waitingLimit(_ manifest: Manifest) -> Int {
        manifest.buffer.samples + max(manifest.geometry.sampleRateHz / 2, 4 * manifest.hopSamples)
    }

    /// The oldest of what waits beyond the limit is dropped, as an app that was kept from running does.
    private func dropOldest() {
        let rate = manifest.geometry.sampleRateHz
        let limit = (Self.waitingLimit(manifest) * feed.rateHz + rate - 1) / rate
        let dropped = feed.ring.discard(max(0, feed.ring.available - limit))
        if dropped == 0 { return }
        self.dropped += dropped
        recorder?.gap(.ringOverrun, samples: dropped, rateHz: feed.rateHz, policy: "drop_oldest", timeNs: clock.nowNs())
    }

    /// End the stream: what the resampler and the model still hold comes out, and what is on is closed.
    public func finish() throws {
        try pump()
        try push(try resamplerIn.flush(into: modelBlock))
        try loop.flush(take)
        decisions?.flush(endSample: loop.inSamples, report)
        playout?.finish()
    }

    /// Begin anew after a failure or a gap: state zero, nothing held; what waits in the ring is dropped.
    ///
    /// - Parameter reason: the gap's kind in the trace.
    public func reset(_ reason: DeviceTrace.GapKind = .reset) throws {
        let dropped = feed.ring.discard(feed.ring.available)
        recorder?.gap(reason, samples: dropped, rateHz: feed.rateHz, policy: "none", timeNs: clock.nowNs())
        earlier.limited += before.limitedSamples
        earlier.nanOutputs += loop.nanOutputs
        noticed = 0
        resamplerIn.reset()
        resamplerOut?.reset()
        before.reset()
        after.reset()
        emittedSamples = 0
        try loop.reset()
        decisions?.reset()
    }

    /// What the screen shows. Call it on the inference thread, a few times a second; the input level begins anew.
    public func figures() -> StreamFigures {
        var figures = StreamFigures()
        figures.calls = loop.calls
        figures.computeP50Ms = timed.durations.quantileMs(0.5)
        figures.computeP95Ms = timed.durations.quantileMs(0.95)
        figures.waitP95Ms = waits.quantileMs(0.95)
        figures.misses = timed.misses
        figures.lostSamples = feed.ring.lostSamples + dropped
        figures.nanSamples = door.nanSamples
        figures.limitedSamples = door.limitedSamples + before.limitedSamples + earlier.limited
        figures.nanOutputs = loop.nanOutputs + earlier.nanOutputs
        figures.level = before.meter.read()
        figures.playout = playout?.counts
        if let labels = decisions?.labels, loop.calls > 0 {
            let best = scores.indices.sorted { scores[$0] > scores[$1] }.prefix(3)
            figures.top = best.map { (printable(labels[$0]), scores[$0]) }
        }
        return figures
    }

    private func noteCapture() {
        while let record = feed.nextRecord() { recorder?.callback(record) }
        let now = feed.ring.lostSamples
        if now > lost {
            recorder?.gap(.ringOverrun, samples: now - lost, rateHz: feed.rateHz, policy: "none", timeNs: clock.nowNs())
            lost = now
        }
    }

    private func push(_ count: Int) throws {
        guard count > 0 else { return }
        let block = Block(rebasing: modelBlock[..<count])
        before.process(block)
        after.feed(UnsafeBufferPointer(block))
        let waiting = feed.ring.available
        timed.waitingSamples = waiting * manifest.geometry.sampleRateHz / feed.rateHz
        waits.add(Int64(waiting) * 1_000_000_000 / Int64(feed.rateHz))
        timed.nextEndSample = loop.nextEndSample
        try loop.push(UnsafeBufferPointer(block), take)
        while noticed < loop.nanOutputs {
            noticed += 1
            recorder?.gap(
                .reset, samples: loop.hop, rateHz: manifest.geometry.sampleRateHz, policy: "none", timeNs: clock.nowNs())
        }
    }

    private func take(_ end: Int, _ values: UnsafeBufferPointer<Float>) throws {
        timed.nextEndSample = loop.nextEndSample
        guard loop.audioOut else {
            for i in 0..<min(scores.count, values.count) { scores[i] = values[i] }
            recorder?.firstDecision(timed.lastEndNs)
            try decisions?.push(values, windowEndSample: end, report)
            return
        }
        emittedSamples += values.count
        if emittedSamples > manifest.geometry.delaySamples { recorder?.firstDecision(timed.lastEndNs) }
        let block = Block(rebasing: enhanced[..<values.count])
        for i in 0..<values.count { block[i] = values[i] }
        try after.process(block)
        onAudio?(UnsafeBufferPointer(block))
        guard let playout, let resamplerOut else { return }
        let given = try resamplerOut.process(UnsafeBufferPointer(block), into: played)
        let dropped = try playout.write(UnsafeBufferPointer(rebasing: played[..<given]), clock.nowNs())
        if dropped > 0 {
            recorder?.gap(.ringOverrun, samples: dropped, rateHz: resamplerOut.outRateHz, policy: "none", timeNs: clock.nowNs())
        }
    }

    private func report(_ event: SoundEvent) {
        recorder?.event(event, timeNs: clock.nowNs())
        onEvent?(event)
    }
}
