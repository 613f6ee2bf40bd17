#if canImport(AVFoundation) && !os(macOS)
@preconcurrency import AVFoundation
import Foundation
import HearpackKit
import UIKit

/// A bundle on the microphone: loads, checks, warms up, listens, and lives through interruptions, routes and the background.
///
/// ```swift
/// let hearpack = Hearpack(Bundle.main.url(forResource: "yamnet-15600", withExtension: "hearpack")!)
/// for try await event in hearpack.start() where event.offsetSample == nil {
///     print("\(event.label) since \(hearpack.seconds(event).begin) s")
/// }
/// ```
///
/// All decisions are in `reduce`; this carries out what it asks for, and hands what happens back to it. Nothing here waits on
/// the main actor.
@MainActor
public final class Hearpack {
    public private(set) var state = HearpackState()
    public private(set) var figures = StreamFigures()
    /// The latency as a sum of named parts; nil before the first figures.
    public private(set) var ledger: LatencyLedger?
    public private(set) var coldStart = DeviceTrace.ColdStart()
    /// What the last stream has left; nil while one runs.
    public private(set) var result: StreamResult?
    public var manifest: Manifest? { bundle?.manifest }

    /// Called after `state` or `result` has changed.
    public var onState: (@MainActor () -> Void)?
    /// Called a few times a second while a stream runs.
    public var onFigures: (@MainActor () -> Void)?
    /// Called for each event, once when it turns on (no offset) and once when it is over.
    public var onEvent: (@MainActor (SoundEvent) -> Void)?
    /// Called on the inference thread with an enhancer's output at the model's rate; set it before `start`.
    public var onAudio: (@Sendable (UnsafeBufferPointer<Float>) -> Void)?

    private static let headsetsKey = "hearpack headsets"

    private let clock: MonotonicClock
    private let appReadyNs: Int64
    private let host: StreamHost
    private var bundle: ModelBundle?
    private var model: LoadedModel?
    private var loading: Task<Void, Never>?
    private var listening: Task<Void, Never>?
    private var events: AsyncThrowingStream<SoundEvent, any Error>.Continuation?
    private var wantsStart = false
    private var lastError: HearpackError?
    private let observers = Observers()

    /// - Parameter clock: started at process start, so that cold-start figures begin there.
    public init(clock: MonotonicClock = MonotonicClock()) {
        self.clock = clock
        appReadyNs = clock.nowNs()
        host = StreamHost(clock: clock)
        state.headsets = UserDefaults.standard.dictionary(forKey: Self.headsetsKey) as? [String: Bool] ?? [:]
        let messages = host.messages
        listening = Task { [weak self] in
            for await message in messages { self?.take(message) }
        }
        observe()
    }

    /// Opens the bundle in a folder at once.
    public convenience init(_ folder: URL, clock: MonotonicClock = MonotonicClock()) {
        self.init(clock: clock)
        open(folder)
    }

    deinit {
        listening?.cancel()
        host.close()
    }

    /// Open a bundle: check it, load its model, warm it up; `state` says how far it is. A stream that runs ends first.
    /// Ignored while another is being loaded.
    public func open(_ folder: URL) {
        guard state.canChoose else { return }
        if state.canStop { stop() }
        end(nil)
        do {
            let opened = try ModelBundle(opening: folder)
            (bundle, model, ledger, figures) = (opened, nil, nil, StreamFigures())
            send(
                .bundleOpened(
                    name: folder.deletingPathExtension().lastPathComponent, task: opened.manifest.task,
                    modelRateHz: opened.manifest.geometry.sampleRateHz))
        } catch {
            send(.failed(HearpackError.translating(error) { .bundle($0) }))
        }
    }

    /// Listen, as soon as the model is ready; the microphone's permission is asked for.
    ///
    /// - Returns: the events, in order; the stream ends with `stop`, when nobody waits for it any more, or with an error. It
    ///   keeps this object alive.
    public func start() -> AsyncThrowingStream<SoundEvent, any Error> {
        events?.finish()
        let (stream, continuation) = AsyncThrowingStream.makeStream(of: SoundEvent.self)
        continuation.onTermination = { [self] ended in
            guard case .cancelled = ended else { return }
            Task { @MainActor in stop() }
        }
        events = continuation
        wantsStart = true
        goOn()
        return stream
    }

    /// End the stream: what was captured is worked on, then `result` is there.
    public func stop() {
        wantsStart = false
        send(.stopTapped)
    }

    /// The user's answer to `state.asksHeadset`.
    public func answer(isHeadset: Bool) { send(.headsetAnswered(isHeadset)) }

    /// Seconds from the stream's start at which an event began and ended.
    public func seconds(_ event: SoundEvent) -> (begin: Double, end: Double?) {
        guard let manifest else { return (0, nil) }
        let span = eventSpan(event, hopSamples: manifest.hopSamples, firstEnd: manifest.buffer.samples)
        let rate = Double(manifest.geometry.sampleRateHz)
        return (Double(span.begin) / rate, span.end.map { Double($0) / rate })
    }

    /// Lets sound out for a comparison, while no stream runs.
    public func activatePlayback() async throws {
        try await withCheckedThrowingContinuation { (done: CheckedContinuation<Void, any Error>) in
            host.activatePlayback { error in
                if let error { done.resume(throwing: error) } else { done.resume() }
            }
        }
    }

    /// Something happened; for what the facade has no method for.
    public func send(_ action: HearpackAction) {
        switch action {
        case .failed(let error), .streamFailed(let error): lastError = error
        case .startTapped, .bundleOpened: lastError = nil
        default: break
        }
        let (next, effects) = reduce(state, action)
        state = next
        for effect in effects { perform(effect) }
        goOn()
        onState?()
    }

    /// What `start` waits for has come, or will not come.
    private func goOn() {
        switch state.phase {
        case .ready where wantsStart, .needsSettings where wantsStart:
            wantsStart = false
            send(.startTapped)
        case .needsSettings: end(.permission(state.message.english))
        case .failed: end(lastError ?? .artefact(state.message.english))
        default: break
        }
    }

    /// No more events: the stream is over, or failed.
    private func end(_ error: HearpackError?) {
        wantsStart = false
        events?.finish(throwing: error)
        events = nil
    }

    // MARK: Effects

    private func perform(_ effect: HearpackEffect) {
        switch effect {
        case .loadModel:
            load { [appReadyNs, clock] bundle, _ in
                let loaded = try await LoadedModel.load(bundle, appReadyNs: appReadyNs, clock: clock)
                return (loaded, .modelLoaded(selfCheckNeeded: loaded.needsSelfCheck))
            }
        case .warmUp: load { [clock] _, model in (try model?.warmedUp(clock: clock), .warm) }
        case .runSelfCheck: load { _, model in (model, .selfChecked(try model?.selfChecked() ?? [])) }
        case .askPermission:
            Task { send(.permission(granted: await AudioSession.requestPermission())) }
        case .startCapture:
            guard let model else { return }
            (result, ledger, figures) = (nil, nil, StreamFigures())
            host.start(model, onAudio, mayMonitor: mayMonitor())
        case .rebuildCapture: host.rebuild(onAudio, mayMonitor: mayMonitor())
        case .pauseCapture: host.pause()
        case .resetStream(let kind): host.reset(kind)
        case .stopCapture(let reason): host.stop(reason, reason == .error ? state.detail : nil)
        case .rememberHeadsets(let headsets): UserDefaults.standard.set(headsets, forKey: Self.headsetsKey)
        }
    }

    private func mayMonitor() -> @Sendable (AudioRoute) -> Bool {
        let state = self.state
        return { state.mayMonitor($0) }
    }

    /// A step on the way to a model that is ready, off the main actor; its answer counts only if no other bundle was chosen.
    private func load(
        _ step: @escaping @Sendable (ModelBundle, LoadedModel?) async throws -> (LoadedModel?, HearpackAction)
    ) {
        guard let bundle else { return }
        let model = self.model
        let before = loading
        loading = Task {
            await before?.value  // one at a time, in order
            let answer: Result<(LoadedModel?, HearpackAction), any Error>
            do {
                answer = .success(try await Task.detached { try await step(bundle, model) }.value)
            } catch {
                answer = .failure(error)
            }
            guard self.bundle?.folder == bundle.folder else { return }
            switch answer {
            case .success(let (model, action)):
                self.model = model
                if let model { coldStart = model.recorder().coldStart }
                send(action)
            case .failure(let error): send(.failed(HearpackError.translating(error) { .artefact($0) }))
            }
        }
    }

    private func take(_ message: StreamHost.Message) {
        switch message {
        case .started(let route): send(.captureStarted(route))
        case .routeChanged(let route): send(.routeChanged(route))
        case .configurationChanged: send(.configurationChanged)
        case .failed(let error): send(.streamFailed(error))
        case .event(let event):
            events?.yield(event)
            onEvent?(event)
        case .figures(let figures, let ledger):
            (self.figures, self.ledger) = (figures, ledger)
            onFigures?()
        case .stopped(let result):
            self.result = result
            coldStart = result.coldStart ?? coldStart
            // Who has asked to start again, or opened another bundle, waits for other events.
            if state.phase == .stopping, !wantsStart { end(lastError) }
            send(.stopped)
        }
    }

    // MARK: The system

    private func observe() {
        let centre = NotificationCenter.default
        func on(_ name: Notification.Name, _ take: @escaping @MainActor (Hearpack, Notification) -> Void) {
            observers.tokens.append(
                centre.addObserver(forName: name, object: nil, queue: .main) { [weak self] note in
                    nonisolated(unsafe) let note = note
                    MainActor.assumeIsolated {
                        guard let self else { return }
                        take(self, note)
                    }
                })
        }
        on(AVAudioSession.interruptionNotification) { hearpack, note in
            if let action = AudioNotifications.interruption(note) { hearpack.send(action) }
        }
        on(AVAudioSession.routeChangeNotification) { hearpack, note in
            if let reason = AudioNotifications.routeChange(note) { hearpack.host.routeChanged(reason) }
        }
        on(AVAudioSession.mediaServicesWereResetNotification) { hearpack, _ in hearpack.send(.mediaServicesReset) }
        on(.AVAudioEngineConfigurationChange) { hearpack, note in hearpack.host.configurationChanged(note.object) }
        on(ProcessInfo.thermalStateDidChangeNotification) { hearpack, _ in hearpack.host.thermal(DeviceFacts.thermal) }
        on(UIApplication.didEnterBackgroundNotification) { hearpack, _ in hearpack.send(.enteredBackground) }
        on(UIApplication.didBecomeActiveNotification) { hearpack, _ in hearpack.send(.becameActive) }
    }
}

/// Observers of notifications, taken away with their owner.
private final class Observers {
    var tokens: [any NSObjectProtocol] = []

    deinit { tokens.forEach(NotificationCenter.default.removeObserver) }
}
#endif
