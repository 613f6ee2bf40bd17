#if canImport(AVFoundation) && !os(macOS)
@preconcurrency import AVFoundation
import Foundation
import HearpackKit

/// Everything of a live stream that waits: session, audio graph, inference thread and trace, on a queue of its own. What
/// happens comes out of `messages`, in its order.
final class StreamHost: @unchecked Sendable {
    enum Message: Sendable {
        case started(AudioRoute)
        case routeChanged(AudioRoute)
        case configurationChanged
        case event(SoundEvent)
        case figures(StreamFigures, LatencyLedger)
        case failed(HearpackError)
        case stopped(StreamResult)
    }

    let messages: AsyncStream<Message>
    private let out: AsyncStream<Message>.Continuation
    private let queue = DispatchQueue(label: "hearpack audio", qos: .userInitiated)
    private let clock: any StreamClock

    // All that follows is used on the queue only.
    private var model: LoadedModel?
    private var recorder: TraceRecorder?
    private var recording: ABRecording?
    private var capture: MicrophoneCapture?
    private var thread: InferenceThread?
    private var granted: CaptureFormat?
    private var generation = 0
    private var lastReason: String?

    init(clock: any StreamClock) {
        self.clock = clock
        (messages, out) = AsyncStream.makeStream(of: Message.self)
    }

    deinit { out.finish() }

    /// A new stream of a model; `mayMonitor` decides by the route whether it is played.
    func start(
        _ model: LoadedModel, _ onAudio: (@Sendable (UnsafeBufferPointer<Float>) -> Void)?,
        mayMonitor: @escaping @Sendable (AudioRoute) -> Bool
    ) {
        queue.async { [self] in
            if self.model?.engine === model.engine, let recorder {
                self.recorder = recorder.next()
            } else {
                recorder = model.recorder()
            }
            self.model = model
            recording = model.bundle.manifest.task == .enhancer ? ABRecording(model.bundle.manifest) : nil
            lastReason = nil
            describe(model)
            build(model, onAudio, mayMonitor)
        }
    }

    /// Changes come in bursts: wait until they are over, then build the graph anew at whatever rate there is now.
    func rebuild(
        _ onAudio: (@Sendable (UnsafeBufferPointer<Float>) -> Void)?,
        mayMonitor: @escaping @Sendable (AudioRoute) -> Bool
    ) {
        queue.async { [self] in
            generation += 1
            let wanted = generation
            queue.asyncAfter(deadline: .now() + .milliseconds(300)) { [self] in
                guard wanted == generation, let model else { return }
                halt()
                build(model, onAudio, mayMonitor)
            }
        }
    }

    /// Lets go of microphone and session; the stream is kept.
    func pause() {
        queue.async { [self] in
            generation += 1
            halt()
            AudioSession.deactivate()
        }
    }

    func reset(_ kind: DeviceTrace.GapKind) { queue.async { [self] in thread?.run { try $0.reset(kind) } } }

    func thermal(_ state: DeviceTrace.Thermal.State) {
        let now = clock.nowNs()
        queue.async { [self] in thread?.run { $0.recorder?.thermal(state, timeNs: now) } }
    }

    func stop(_ reason: DeviceTrace.EndReason, _ message: String?) {
        queue.async { [self] in
            generation += 1
            halt()
            AudioSession.deactivate()
            out.yield(.stopped(result(reason, message)))
        }
    }

    /// The owner is gone: nothing is left running.
    func close() {
        queue.async { [self] in
            generation += 1
            guard capture != nil else { return }
            halt()
            AudioSession.deactivate()
        }
    }

    /// A notification of the system, of which only those of our own graph and route count.
    func configurationChanged(_ sender: Any?) {
        nonisolated(unsafe) let sender = sender
        queue.async { [self] in
            if let capture, capture.owns(sender) { out.yield(.configurationChanged) }
        }
    }

    func routeChanged(_ reason: String) {
        queue.async { [self] in
            guard let model else { return }
            lastReason = reason
            out.yield(.routeChanged(AudioSession.route(modelRateHz: model.bundle.manifest.geometry.sampleRateHz)))
        }
    }

    func activatePlayback(_ done: @escaping @Sendable (HearpackError?) -> Void) {
        queue.async {
            do {
                try AudioSession.activatePlayback()
                done(nil)
            } catch {
                done(HearpackError.translating(error) { .audio("Sound cannot be played now: \($0)") })
            }
        }
    }

    // MARK: On the queue

    /// Session, capture, worker and thread, in this order; on any failure nothing is left running.
    private func build(
        _ model: LoadedModel, _ onAudio: (@Sendable (UnsafeBufferPointer<Float>) -> Void)?,
        _ mayMonitor: (AudioRoute) -> Bool
    ) {
        let manifest = model.bundle.manifest
        let modelRateHz = manifest.geometry.sampleRateHz
        do {
            try AudioSession.activate(task: manifest.task)
            let route = AudioSession.route(modelRateHz: modelRateHz)
            // Eight seconds: what waits beyond the worker's limit is dropped there.
            let feed = CaptureFeed(ringSamples: 8 * route.rateHz, clock: clock)
            let playBlock = AudioSession.blockFrames
            let playout = mayMonitor(route) ? try Self.playout(manifest, route.rateHz, playBlock) : nil
            let capture = MicrophoneCapture(playout: playout, clock: clock)
            self.capture = capture
            if recorder?.coldStart.captureBeginNs == nil { recorder?.coldStart.captureBeginNs = clock.nowNs() }
            let format = try capture.start(feed)
            granted = format
            recorder?.route(AudioSession.traceRoute(timeNs: clock.nowNs(), reason: lastReason))
            recorder?.gain(AudioSession.traceGain(timeNs: clock.nowNs()))
            let worker = try StreamWorker(
                model.bundle, model.engine, feed: feed, playout: playout, playoutRateHz: playout?.rateHz,
                playoutBlock: playBlock, recording: recording, recorder: recorder, clock: clock)
            worker.onEvent = { [out] in out.yield(.event($0)) }
            worker.onAudio = onAudio
            let (inMs, outMs) = (worker.resamplerIn.delayMs, worker.resamplerOut?.delayMs)
            let (input, output) = (AudioSession.inputLatencyMs, AudioSession.outputLatencyMs)
            thread = InferenceThread(
                worker,
                onFigures: { [out] figures in
                    let ledger = LatencyLedger(
                        manifest: manifest, granted: format, figures: figures, resamplerInMs: inMs, resamplerOutMs: outMs,
                        systemInputMs: input, systemOutputMs: outMs == nil ? nil : output)
                    out.yield(.figures(figures, ledger))
                },
                onFailure: { [out] in out.yield(.failed($0)) })
            out.yield(.started(AudioSession.route(modelRateHz: modelRateHz)))
        } catch {
            halt()
            out.yield(.failed(HearpackError.translating(error) { .audio($0) }))
        }
    }

    private static func playout(_ manifest: Manifest, _ rateHz: Int, _ block: Int) throws -> PlayoutRing {
        let hop = (manifest.buffer.samples * rateHz + manifest.geometry.sampleRateHz - 1) / manifest.geometry.sampleRateHz
        let prefill = PlayoutRing.prefill(manifest, deviceRateHz: rateHz, deviceBlock: block)
        return try PlayoutRing(
            capacitySamples: max(2 * rateHz, 4 * prefill), prefillSamples: prefill,
            deadbandSamples: PlayoutRing.deadband(hop: hop, block: block, rateHz: rateHz), toleranceSamples: hop,
            rateHz: rateHz)
    }

    private func halt() {
        capture?.stop()
        thread?.stop()
        (capture, thread) = (nil, nil)
    }

    private func describe(_ model: LoadedModel) {
        recorder?.thermal(DeviceFacts.thermal, timeNs: clock.nowNs())
        let units = model.artefact.allowedCompute.map(\.rawValue)
        // Core ML does not say what it used: "unknown" is the truth, but for the CPU alone.
        recorder?.computeUnit(
            DeviceTrace.ComputeUnit(
                timeNs: clock.nowNs(), requested: units.last ?? "cpu", used: units == ["cpu"] ? "cpu" : "unknown",
                detail: model.engine.info.detail))
    }

    /// The trace, of a stream that heard something, and the last seconds of an enhancer.
    private func result(_ reason: DeviceTrace.EndReason, _ message: String?) -> StreamResult {
        var result = StreamResult(comparison: recording?.clip(), sampleRateHz: recording?.sampleRateHz ?? 0)
        guard let model, let granted, let recorder else { return result }
        let manifest = model.bundle.manifest
        do {
            let trace = try recorder.finish(
                app: DeviceFacts.app, device: DeviceFacts.device,
                bundle: DeviceTrace.Model(manifest, model.artefact, model.engine.info),
                audio: DeviceTrace.Audio(
                    modelRateHz: manifest.geometry.sampleRateHz,
                    requested: CaptureFormat(
                        rateHz: AudioSession.wantedRateHz, channels: 1, blockFrames: AudioSession.wantedBlockFrames,
                        format: .float32, mode: "measurement"),
                    granted: granted, ringSamples: StreamWorker.waitingLimit(manifest)),
                reason: reason, message: message, timeNs: clock.nowNs())
            let name = printable(model.bundle.folder.deletingPathExtension().lastPathComponent)
            let file = FileManager.default.temporaryDirectory.appendingPathComponent("\(name)-trace.json")
            try trace.json().write(to: file, options: .atomic)
            (result.traceFile, result.coldStart) = (file, trace.coldStart)
        } catch {
            // No trace of a stream that heard nothing; there is nothing to share then.
            result.traceFile = nil
        }
        return result
    }
}

/// What is left of a stream.
public struct StreamResult: Sendable {
    /// The device trace, for `hearpack fit-device`; nil if nothing was heard.
    public var traceFile: URL?
    public var coldStart: DeviceTrace.ColdStart?
    /// An enhancer's last 30 s, in and out, aligned.
    public var comparison: (original: [Float], enhanced: [Float])?
    public var sampleRateHz = 0

    init(comparison: (original: [Float], enhanced: [Float])?, sampleRateHz: Int) {
        self.comparison = comparison
        self.sampleRateHz = sampleRateHz
    }
}
#endif
