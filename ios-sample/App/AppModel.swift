@preconcurrency import AVFoundation
import Foundation
import HearpackCoreML
import HearpackKit
import SwiftUI

/// Carries out what `reduce` asks for, and hands what happens back to it. All decisions are in the reducer.
@MainActor
final class AppModel: ObservableObject {
    @Published private(set) var state = AppState()
    @Published private(set) var figures = StreamFigures()
    @Published private(set) var ledger: LatencyLedger?
    @Published private(set) var coldStart = DeviceTrace.ColdStart()
    /// Newest first; an event that lasts has no offset yet.
    @Published private(set) var events: [SoundEvent] = []
    @Published private(set) var traceFile: URL?
    @Published private(set) var bundles: [URL] = []

    private let clock: MonotonicClock
    private var bundle: ModelBundle?
    private var artefact: Manifest.Artefact?
    private var engine: CoreMLEngine?
    private var recorder = TraceRecorder()
    private var capture: MicrophoneCapture?
    private var feed: CaptureFeed?
    private var thread: InferenceThread?
    private var granted: CaptureFormat?
    private var lastRouteReason: String?
    private var observers: [any NSObjectProtocol] = []
    private var rebuild: Task<Void, Never>?

    /// - Parameter clock: started at process start, so that cold-start figures begin there.
    init(clock: MonotonicClock) {
        self.clock = clock
        recorder.coldStart.appReadyNs = clock.nowNs()
        observe()
    }

    // MARK: What the screens call

    var manifest: Manifest? { bundle?.manifest }

    func open() {
        let folder = Bundle.main.bundleURL.appendingPathComponent("Bundles")
        bundles = ModelBundle.all(in: folder)
        if let first = bundles.first { select(first) } else { send(.noBundle) }
    }

    func select(_ folder: URL) {
        if state.canStop { send(.stopTapped) }
        do {
            let opened = try ModelBundle(opening: folder)
            bundle = opened
            engine = nil
            send(
                .bundleOpened(
                    name: folder.deletingPathExtension().lastPathComponent, task: opened.manifest.task,
                    modelRateHz: opened.manifest.geometry.sampleRateHz))
        } catch {
            send(.failed(translated(error) { .bundle($0) }))
        }
    }

    func send(_ action: AppAction) {
        let (next, effects) = reduce(state, action)
        state = next
        for effect in effects { perform(effect) }
    }

    // MARK: Effects

    private func perform(_ effect: AppEffect) {
        switch effect {
        case .loadModel: Task { await loadModel() }
        case .runSelfCheck: Task { await selfCheck() }
        case .warmUp: Task { await warmUp() }
        case .askPermission: Task { send(.permission(granted: await AudioSession.requestPermission())) }
        case .startCapture: startStream(new: true)
        case .stopCapture(let reason): stopStream(reason)
        case .rebuildCapture: scheduleRebuild()
        case .resetStream(let kind): thread?.run { try $0.reset(kind) }
        }
    }

    /// Whether an answer is still wanted: the user may have chosen another bundle meanwhile.
    private func isCurrent(_ asked: ModelBundle) -> Bool { bundle?.folder == asked.folder }

    private func loadModel() async {
        guard let bundle else { return }
        do {
            let folder = bundle.folder
            let artefact = try bundle.manifest.artefact(format: "coreml", in: folder)
            try await Task.detached { try bundle.checkFiles(artefact) }.value
            recorder.coldStart.bundleCheckedNs = clock.nowNs()
            recorder.coldStart.modelLoadBeginNs = clock.nowNs()
            let caches = FileManager.default.urls(for: .cachesDirectory, in: .userDomainMask)[0]
            let loaded = try await CoreMLEngine.load(
                bundle, artefact, cacheFolder: caches.appendingPathComponent("hearpack"))
            guard isCurrent(bundle) else { return }
            recorder.coldStart.modelLoadEndNs = clock.nowNs()
            recorder.coldStart.weightCache = loaded.wasCached ? .warm : .cold
            engine = loaded
            self.artefact = artefact
            let key = SelfCheckMemory.key(artefact)
            send(.modelLoaded(selfCheckNeeded: !SelfCheckMemory.passed(key)))
        } catch {
            if isCurrent(bundle) { send(.failed(translated(error) { .artefact($0) })) }
        }
    }

    private func selfCheck() async {
        guard let bundle, let artefact, let engine else { return }
        do {
            let reports = try await Task.detached { try SelfCheck.run(bundle, artefact, engine) }.value
            if reports.allSatisfy(\.passed) { SelfCheckMemory.remember(SelfCheckMemory.key(artefact)) }
            if isCurrent(bundle) { send(.selfChecked(reports)) }
        } catch {
            if isCurrent(bundle) { send(.failed(translated(error) { .artefact($0) })) }
        }
    }

    private func warmUp() async {
        guard let bundle, let engine else { return }
        let clock = self.clock
        do {
            // Loaded is not warm: the first predictions may take seconds.
            let calls = try await Task.detached {
                var calls: [DeviceTrace.Inference] = []
                for _ in 0..<3 {
                    let begin = clock.nowNs()
                    try engine.warmUp(calls: 1)
                    calls.append(DeviceTrace.Inference(beginNs: begin, endNs: clock.nowNs(), endSample: 0, warmUp: true))
                }
                return calls
            }.value
            guard isCurrent(bundle) else { return }
            for call in calls { recorder.inference(call) }
            coldStart = recorder.coldStart
            send(.warm)
        } catch {
            if isCurrent(bundle) { send(.failed(translated(error) { .artefact($0) })) }
        }
    }

    /// Capture, worker and thread, in this order; on any failure nothing is left running.
    private func startStream(new: Bool) {
        guard let bundle, let engine else { return }
        let manifest = bundle.manifest
        do {
            try AudioSession.activate(task: manifest.task)
            let route = AudioSession.route(modelRateHz: manifest.geometry.sampleRateHz)
            if new { beginTrace() }
            // Eight seconds: what waits beyond the worker's limit is dropped there.
            let feed = CaptureFeed(ringSamples: 8 * route.rateHz, clock: clock)
            var playout: PlayoutRing?
            if manifest.task == .enhancer && route.mayMonitor {
                let hop = manifest.buffer.samples * route.rateHz / manifest.geometry.sampleRateHz
                playout = try PlayoutRing(
                    capacitySamples: 2 * route.rateHz,
                    prefillSamples: PlayoutRing.prefill(
                        manifest, deviceRateHz: route.rateHz, deviceBlock: AudioSession.blockFrames),
                    deadbandSamples: PlayoutRing.deadband(
                        hop: hop, block: AudioSession.blockFrames, rateHz: route.rateHz),
                    toleranceSamples: hop, rateHz: route.rateHz)
            }
            let capture = MicrophoneCapture(task: manifest.task, playout: playout, clock: clock)
            recorder.coldStart.captureBeginNs = recorder.coldStart.captureBeginNs ?? clock.nowNs()
            let format = try capture.start(feed)
            self.capture = capture
            self.feed = feed
            granted = format
            recorder.route(AudioSession.traceRoute(timeNs: clock.nowNs(), reason: lastRouteReason))
            recorder.gain(AudioSession.traceGain(timeNs: clock.nowNs()))
            let worker = try StreamWorker(
                bundle, engine, feed: feed, playout: playout, playoutRateHz: playout == nil ? nil : format.rateHz,
                recorder: recorder, clock: clock)
            // Typed as Sendable, so that it does not belong to the main actor: the inference thread calls it.
            let forward: @Sendable (SoundEvent) -> Void = { event in Task { @MainActor [weak self] in self?.show(event) } }
            worker.onEvent = forward
            let delays = Delays(
                inMs: worker.resamplerIn.delayMs, outMs: worker.resamplerOut?.delayMs, prefill: playout?.prefillSamples)
            thread = InferenceThread(
                worker,
                onFigures: { figures in Task { @MainActor [weak self] in self?.show(figures, delays) } },
                onFailure: { error in Task { @MainActor [weak self] in self?.send(.streamFailed(error)) } })
            send(.captureStarted(AudioSession.route(modelRateHz: manifest.geometry.sampleRateHz)))
        } catch {
            halt()
            send(.streamFailed(translated(error) { .audio($0) }))
        }
    }

    private struct Delays: Sendable {
        let inMs: Double
        let outMs: Double?
        let prefill: Int?
    }

    private func stopStream(_ reason: DeviceTrace.EndReason) {
        let message = reason == .error ? state.message : nil
        halt()
        AudioSession.deactivate()
        writeTrace(reason, message)
    }

    private func halt() {
        rebuild?.cancel()
        capture?.stop()
        thread?.stop()
        capture = nil
        thread = nil
    }

    /// Changes come in bursts: wait until they are over, then build the graph anew at whatever rate there is now.
    private func scheduleRebuild() {
        rebuild?.cancel()
        rebuild = Task { [weak self] in
            try? await Task.sleep(nanoseconds: 300_000_000)
            guard let self, !Task.isCancelled, self.state.canStop else { return }
            self.capture?.stop()
            self.thread?.stop()
            self.startStream(new: false)
        }
    }

    private func beginTrace() {
        let coldStart = recorder.coldStart
        recorder = TraceRecorder()
        recorder.coldStart = coldStart
        recorder.thermal(DeviceFacts.thermal, timeNs: clock.nowNs())
        let units = artefact?.allowedCompute.map(\.rawValue) ?? ["cpu"]
        // Core ML does not say what it used: "unknown" is the truth, but for the CPU alone.
        recorder.computeUnit(
            DeviceTrace.ComputeUnit(
                timeNs: clock.nowNs(), requested: units.last ?? "cpu", used: units == ["cpu"] ? "cpu" : "unknown",
                detail: engine?.info.detail))
        events = []
        traceFile = nil
        lastRouteReason = nil
    }

    private func show(_ event: SoundEvent) {
        events.removeAll { $0.index == event.index && $0.onsetSample == event.onsetSample }
        events.insert(event, at: 0)
        if events.count > 100 { events.removeLast() }
    }

    private func show(_ figures: StreamFigures, _ delays: Delays) {
        self.figures = figures
        guard let manifest = bundle?.manifest, let granted else { return }
        let prefill = delays.prefill.map { $0 * manifest.geometry.sampleRateHz / granted.rateHz }
        ledger = LatencyLedger(
            manifest: manifest, granted: granted, resamplerInMs: delays.inMs, resamplerOutMs: delays.outMs,
            playoutPrefillSamples: prefill, systemInputMs: AudioSession.inputLatencyMs,
            systemOutputMs: delays.outMs == nil ? nil : AudioSession.outputLatencyMs,
            waitP95Ms: figures.waitP95Ms, computeP95Ms: figures.computeP95Ms)
    }

    private func writeTrace(_ reason: DeviceTrace.EndReason, _ message: String?) {
        guard let bundle, let artefact, let engine, let granted, feed != nil else { return }
        let manifest = bundle.manifest
        do {
            let trace = try recorder.finish(
                app: DeviceFacts.app, device: DeviceFacts.device,
                bundle: DeviceTrace.Model(manifest, artefact, engine.info),
                audio: DeviceTrace.Audio(
                    modelRateHz: manifest.geometry.sampleRateHz,
                    requested: CaptureFormat(
                        rateHz: AudioSession.wantedRateHz, channels: 1, blockFrames: AudioSession.wantedBlockFrames,
                        format: .float32, mode: "measurement"),
                    granted: granted,
                    ringSamples: StreamWorker.waitingLimit(manifest)),
                reason: reason, message: message, timeNs: clock.nowNs())
            let file = FileManager.default.temporaryDirectory.appendingPathComponent("\(state.bundle)-trace.json")
            try trace.json().write(to: file, options: .atomic)
            traceFile = file
            coldStart = trace.coldStart
        } catch {
            // No trace of a stream that heard nothing; the screen then has no share button.
            traceFile = nil
        }
    }

    // MARK: The system

    private func observe() {
        let centre = NotificationCenter.default
        func on(_ name: Notification.Name, _ take: @escaping @MainActor (AppModel, Notification) -> Void) {
            observers.append(
                centre.addObserver(forName: name, object: nil, queue: .main) { [weak self] note in
                    let handed = Handed(value: note)
                    MainActor.assumeIsolated {
                        guard let self else { return }
                        take(self, handed.value)
                    }
                })
        }
        on(AVAudioSession.interruptionNotification) { model, note in
            if let action = AudioNotifications.interruption(note) { model.send(action) }
        }
        on(AVAudioSession.routeChangeNotification) { model, note in
            guard let reason = AudioNotifications.routeChange(note), let rate = model.bundle?.manifest.geometry.sampleRateHz
            else { return }
            model.lastRouteReason = reason
            model.send(.routeChanged(AudioSession.route(modelRateHz: rate)))
        }
        on(AVAudioSession.mediaServicesWereResetNotification) { model, _ in model.send(.mediaServicesReset) }
        on(.AVAudioEngineConfigurationChange) { model, note in
            // Only our engine's, and not that of a graph already let go of.
            if let sender = note.object as? AVAudioEngine, sender === model.capture?.observed {
                model.send(.configurationChanged)
            }
        }
        on(ProcessInfo.thermalStateDidChangeNotification) { model, _ in
            let (state, now) = (DeviceFacts.thermal, model.clock.nowNs())
            model.thread?.run { $0.recorder?.thermal(state, timeNs: now) }
        }
    }

    private struct Handed<Value>: @unchecked Sendable { let value: Value }
}

/// Which artefacts have passed their self-check on this system: once each is enough.
enum SelfCheckMemory {
    static func key(_ artefact: Manifest.Artefact) -> String {
        let system = ProcessInfo.processInfo.operatingSystemVersionString
        return "self-check " + SHA256.hex(Data((artefact.files.map(\.sha256).joined() + system).utf8)).prefix(32)
    }

    static func passed(_ key: String) -> Bool { UserDefaults.standard.bool(forKey: key) }

    static func remember(_ key: String) { UserDefaults.standard.set(true, forKey: key) }
}
