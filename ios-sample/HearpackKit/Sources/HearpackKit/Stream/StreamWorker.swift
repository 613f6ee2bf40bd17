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
    let clock: any StreamClock
    private let raw: SampleBlock
    private let modelBlock: SampleBlock
    private let enhanced: SampleBlock
    private let played: SampleBlock
    private var scores: [Float]
    private var emittedSamples = 0
    private var lost = 0
    /// Counts of streams before the last reset.
    private var earlier = (limited: 0, nanOutputs: 0)
    private var noticed = 0  // of the loop's calls without a finite output
    private var dropped = 0
    private var waits = DurationHistogram()
    private var arrivals = ArrivalMeter()
    private var gaps: GapDetector?
    private var captureGaps = 0
    private var originNs: Int64?  // of the stream, where there is no recorder to keep it
    private var stretchBegin = 0  // samples after the stream's begin
    private let recording: ABRecording?
    private let playBlock: Int?
    private var settling: Bool

    /// - Parameters:
    ///   - bundle: its manifest rules everything: decisions and plain DSP too.
    ///   - engine: an opened artefact, warmed up.
    ///   - feed: the capture side; its `rateHz` is the rate of the samples in its ring.
    ///   - playout: where an enhancer's output goes; nil if it is not to be heard.
    ///   - playoutRateHz: the device's output rate.
    ///   - playoutBlock: frames of the device's output blocks: the ring's prefill is then set once it is known how capture
    ///     comes, and nothing is played in the first half second. nil leaves the ring as it is.
    ///   - recording: keeps an enhancer's input and output for comparison; nil for none.
    ///   - recorder: gets callbacks, calls, gaps and events; nil for none.
    /// - Throws: `audio`: a rate the resampler does not take; `bundle`, `usage`: parts that do not fit.
    public init(
        _ bundle: ModelBundle, _ engine: any InferenceEngine, feed: CaptureFeed, playout: PlayoutRing? = nil,
        playoutRateHz: Int? = nil, playoutBlock: Int? = nil, recording: ABRecording? = nil,
        recorder: TraceRecorder? = nil, clock: any StreamClock
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
        self.recording = loop.audioOut ? recording : nil
        playBlock = playoutBlock
        settling = self.playout != nil && playoutBlock != nil && manifest.playout == nil
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
        timed.waiting = { [unowned self] in waiting($0) }
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
        var taken = 0
        while let base = raw.baseAddress {
            noteCapture()
            dropOldest()
            let count = feed.ring.read(base, raw.count)
            if count == 0 { break }
            taken += count
            let block = SampleBlock(start: base, count: count)
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

    /// How long the thread may sleep after a `pump` that took nothing.
    public func pauseNs(_ now: Int64) -> Int64 {
        let rate = manifest.geometry.sampleRateHz
        let missing = (loop.missingSamples * feed.rateHz + rate - 1) / rate - feed.ring.available
        return arrivals.pauseNs(missing, rateHz: feed.rateHz, now: now)
    }

    /// End the stream: what the resampler and the model still hold comes out, and what is on is closed.
    public func finish() throws {
        try pump()
        try push(try resamplerIn.flush(into: modelBlock))
        try loop.flush(take)
        decisions?.flush(endSample: loop.inSamples, report)
        playout?.finish()
    }

    /// Begin anew after a failure or a gap: what is on is closed, state zero, nothing held; what waits in the ring is dropped.
    ///
    /// - Parameter reason: the gap's kind in the trace.
    public func reset(_ reason: DeviceTrace.GapKind = .reset) throws {
        noteCapture()  // of what is dropped, too: the next record is the next stretch's
        decisions?.flush(endSample: loop.inSamples, report)
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
        (arrivals, gaps) = (ArrivalMeter(), nil)
        try loop.reset()
        decisions?.reset()
    }

    /// What the screen shows. Call it on the inference thread, a few times a second; the input level begins anew.
    public func figures() -> StreamFigures {
        var figures = StreamFigures()
        figures.calls = loop.calls
        figures.computeP50Ms = timed.durations.quantileMs(0.5)
        figures.computeP95Ms = timed.durations.quantileMs(0.95)
        figures.waitP50Ms = waits.quantileMs(0.5)
        figures.waitP95Ms = waits.quantileMs(0.95)
        figures.lumpFrames = arrivals.lumpFrames
        figures.captureGaps = captureGaps
        figures.prefillSamples = playout?.prefillSamples
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
        while let record = feed.nextRecord() {
            recorder?.callback(record)
            if arrivals.firstNs == nil { begin(record) }
            arrivals.add(record)
            if let missing = gaps?.read(record.timeNs, Int(record.frames)), missing > 0 {
                captureGaps += 1
                recorder?.gap(.captureGap, samples: missing, rateHz: feed.rateHz, policy: "none", timeNs: record.timeNs)
            }
        }
        let now = feed.ring.lostSamples
        if now > lost {
            recorder?.gap(.ringOverrun, samples: now - lost, rateHz: feed.rateHz, policy: "none", timeNs: clock.nowNs())
            lost = now
        }
    }

    /// A stretch of the stream begins with this callback: the first, or the first after a reset.
    private func begin(_ record: CallbackRecord) {
        let (frames, rate) = (Int64(record.frames), Int64(max(1, feed.rateHz)))
        let began = record.hardwareTimeNs >= 0 ? record.hardwareTimeNs : record.timeNs - frames * 1_000_000_000 / rate
        recording?.reset()
        originNs = originNs ?? began
        let since = recorder?.begin(began) ?? began - (originNs ?? began)
        stretchBegin = Int((Double(since) * Double(manifest.geometry.sampleRateHz) / 1e9).rounded())
        gaps = GapDetector(
            rateHz: feed.rateHz, bufferFrames: GapDetector.buffer(block: Int(record.frames), rateHz: feed.rateHz))
    }

    /// A call begins: how long its buffer has lain complete in the ring, and what waits behind it, at the model's rate.
    private func waiting(_ now: Int64) -> Int {
        let (rate, device) = (manifest.geometry.sampleRateHz, feed.rateHz)
        let beyond = max(0, loop.inSamples - loop.nextEndSample)
        if let came = arrivals.time(of: feed.ring.readSamples - beyond * device / rate) { waits.add(now - came) }
        return beyond + feed.ring.available * rate / device
    }

    private func push(_ count: Int) throws {
        guard count > 0 else { return }
        let block = SampleBlock(rebasing: modelBlock[..<count])
        before.process(block)
        after.feed(UnsafeBufferPointer(block))
        recording?.addOriginal(UnsafeBufferPointer(block))
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
        let block = SampleBlock(rebasing: enhanced[..<values.count])
        for i in 0..<values.count { block[i] = values[i] }
        try after.process(block)
        onAudio?(UnsafeBufferPointer(block))
        recording?.addEnhanced(UnsafeBufferPointer(block))
        guard let playout, let resamplerOut, try isSettled(playout) else { return }
        let given = try resamplerOut.process(UnsafeBufferPointer(block), into: played)
        let dropped = try playout.write(UnsafeBufferPointer(rebasing: played[..<given]), clock.nowNs())
        if dropped > 0 {
            recorder?.gap(.ringOverrun, samples: dropped, rateHz: resamplerOut.outRateHz, policy: "none", timeNs: clock.nowNs())
        }
    }

    /// Whether the playout may be written to: half a second of capture shows its lumps and its jitter, and with them the prefill.
    private func isSettled(_ playout: PlayoutRing) throws -> Bool {
        guard settling, let playBlock else { return true }
        guard let first = arrivals.firstNs, arrivals.lastNs - first >= 500_000_000 else { return false }
        settling = false
        let rate = playout.rateHz
        let lump = (arrivals.lumpFrames * rate + feed.rateHz - 1) / feed.rateHz
        // The sum: the clocks' phases run through, and then a lump may just have been missed when a block is due.
        let late = Int((6 * max(arrivals.jitter, 0.000_25) * Double(rate)).rounded())
        let prefill = PlayoutRing.prefill(manifest, deviceRateHz: rate, deviceBlock: playBlock + lump + late)
        try playout.prepare(
            prefillSamples: min(prefill, playout.capacitySamples / 2),
            deadbandSamples: PlayoutRing.deadband(hop: playout.toleranceSamples, block: max(playBlock, lump), rateHz: rate))
        return true
    }

    private func report(_ own: SoundEvent) {
        let event = own.shifted(by: stretchBegin)
        recorder?.event(event, timeNs: clock.nowNs())
        onEvent?(event)
    }
}
