/// What the app is doing, and what a failure says: a pure function of what happened, tested without an app.
///
/// `reduce` is the only place where the state changes; it says what to do next as effects, and `Hearpack` does them.
public struct HearpackState: Equatable, Sendable {
    public enum Phase: Equatable, Sendable {
        case opening
        case loading
        case checking
        case warmingUp
        case ready
        case starting
        case running
        /// By the system; the stream goes on by itself when it may.
        case interrupted
        /// The last of what was captured is worked on.
        case stopping
        case needsSettings
        case failed
    }

    public var phase: Phase = .opening
    public var bundle = ""
    public var task: Manifest.Task?
    /// A line under the title: what is going on, or what went wrong and what to do.
    public var message = HearpackText.none
    /// In what failed, the words of the kit or the system, in English; empty if there are none.
    public var detail = ""
    /// What is worth knowing while the stream runs, for instance that the route carries only 8 kHz.
    public var notices: [HearpackText] = []
    public var needsSelfCheck = false
    public var selfCheck: [String] = []
    public var selfCheckPassed: Bool?
    /// Whether the enhanced sound is played; the audio graph is built with or without playout.
    public var monitoring = false
    /// The output of which the user must say whether it is a headset before anything is played there.
    public var asksHeadset: AudioRoute?
    /// What the user said of outputs: whether they are headsets.
    public var headsets: [String: Bool] = [:]
    /// Whether the app is out of sight; the stream then waits for its return.
    public var inBackground = false

    public init() {}

    /// Whether the start button does something.
    public var canStart: Bool { phase == .ready }
    public var canStop: Bool { phase == .running || phase == .interrupted || phase == .starting }
    /// Whether another bundle may be chosen now.
    public var canChoose: Bool { ![.loading, .checking, .warmingUp, .stopping].contains(phase) }
    /// Whether the screen must stay on: a phone that locks itself ends the stream.
    public var staysAwake: Bool { canStop && !inBackground }

    /// Whether enhanced sound may be played on a route.
    public func mayMonitor(_ route: AudioRoute) -> Bool {
        guard task == .enhancer else { return false }
        return route.monitoring == .allowed || (route.monitoring == .ask && headsets[route.outputID] == true)
    }
}

public enum HearpackAction: Equatable, Sendable {
    /// Why the system took the microphone.
    public enum Interruption: Equatable, Sendable {
        /// Another app or a call.
        case other
        /// The app was suspended, and hears of it when it is back; no end is ever told.
        case suspended
        /// By a cover that closes over it.
        case microphoneMuted
        /// Its device went away.
        case routeDisconnected
    }

    case bundleOpened(name: String, task: Manifest.Task, modelRateHz: Int)
    case noBundle
    case failed(HearpackError)
    case modelLoaded(selfCheckNeeded: Bool)
    case selfChecked([SelfCheckReport])
    case warm
    case startTapped
    case permission(granted: Bool)
    case captureStarted(AudioRoute)
    case stopTapped
    /// All that was captured is worked on, and the trace is written.
    case stopped
    case enteredBackground
    case becameActive
    case interruptionBegan(Interruption)
    case interruptionEnded(mayResume: Bool)
    case routeChanged(AudioRoute)
    case headsetAnswered(Bool)
    case configurationChanged
    case mediaServicesReset
    case streamFailed(HearpackError)
    case retryTapped
}

/// What has to be done next.
public enum HearpackEffect: Equatable, Sendable {
    case loadModel
    case runSelfCheck
    case warmUp
    case askPermission
    case startCapture
    case stopCapture(DeviceTrace.EndReason)
    /// Let go of microphone and session; the stream is kept.
    case pauseCapture
    /// Stop, make the audio graph anew, start: after a route or configuration change, or a media-services reset.
    case rebuildCapture
    case resetStream(DeviceTrace.GapKind)
    case rememberHeadsets([String: Bool])
}

/// The state after an action, and what to do.
public func reduce(_ state: HearpackState, _ action: HearpackAction) -> (HearpackState, [HearpackEffect]) {
    switch action {
    case .bundleOpened, .noBundle, .failed, .modelLoaded, .selfChecked, .warm: return reduceModel(state, action)
    case .enteredBackground, .becameActive, .interruptionBegan, .interruptionEnded, .routeChanged, .headsetAnswered,
        .configurationChanged, .mediaServicesReset:
        return reduceSystem(state, action)
    default: return reduceStream(state, action)
    }
}

/// From the bundle to a model that is ready.
private func reduceModel(_ state: HearpackState, _ action: HearpackAction) -> (HearpackState, [HearpackEffect]) {
    var next = state
    switch action {
    case .bundleOpened(let name, let task, _):
        next = HearpackState()
        next.headsets = state.headsets
        next.inBackground = state.inBackground
        next.bundle = name
        next.task = task
        next.phase = .loading
        next.message = HearpackText(
            "Loading %@. The first time Core ML compiles it for this device; that may take a while.", name)
        return (next, [.loadModel])
    case .noBundle:
        next.phase = .failed
        next.message = HearpackText(
            "No bundle is installed in this app. On your computer run: hearpack install BUNDLE --ios ios-sample")
        return (next, [])
    case .failed(let error):
        next.phase = .failed
        next.message = HearpackText("The model cannot be used.")
        next.detail = error.message
        return (next, state.canStop ? [.stopCapture(.error)] : [])
    case .modelLoaded(let selfCheckNeeded):
        guard state.phase == .loading else { return (state, []) }
        next.needsSelfCheck = selfCheckNeeded
        next.phase = .warmingUp
        next.message = HearpackText("Warming up.")
        return (next, [.warmUp])
    case .warm:
        guard state.phase == .warmingUp else { return (state, []) }
        guard state.needsSelfCheck else { return (ready(next), []) }
        next.phase = .checking
        next.message = HearpackText("Checking the model on this device against the bundle's golden vectors.")
        return (next, [.runSelfCheck])
    case .selfChecked(let reports):
        guard state.phase == .checking else { return (state, []) }
        next.selfCheck = reports.map(\.summary)
        next.selfCheckPassed = !reports.isEmpty && reports.allSatisfy(\.passed)
        if next.selfCheckPassed == true { return (ready(next), []) }
        next.phase = .failed
        next.message = HearpackText(
            "The self-check failed: this device does not compute what the model was exported to compute. "
                + "Try an fp32 artefact (hearpack install --artefact coreml-fp32), and send us the lines below.")
        return (next, [])
    default: return (state, [])
    }
}

private func ready(_ state: HearpackState) -> HearpackState {
    var next = state
    (next.phase, next.message) = (.ready, .none)
    return next
}

/// What the user does, and how the stream answers.
private func reduceStream(_ state: HearpackState, _ action: HearpackAction) -> (HearpackState, [HearpackEffect]) {
    var next = state
    switch action {
    case .startTapped, .retryTapped:
        guard state.phase == .ready || state.phase == .needsSettings else { return (state, []) }
        next.phase = .starting
        (next.message, next.detail, next.notices) = (.none, "", [])
        return (next, [.askPermission])
    case .permission(let granted):
        guard state.phase == .starting else { return (state, []) }
        if granted { return (next, [.startCapture]) }
        next.phase = .needsSettings
        next.message = HearpackText(
            "This app may not use the microphone. Allow it in Settings > Privacy & Security > Microphone, then "
                + "try again. If the switch cannot be moved there, a restriction or your organisation forbids it."
        )
        return (next, [])
    case .captureStarted(let route):
        guard state.canStop, !state.inBackground else { return (state, []) }
        next.phase = .running
        next.message = .none
        return (onRoute(next, route), [])
    case .stopTapped:
        guard state.canStop else { return (state, []) }
        return (stopping(next, .none), [.stopCapture(.stopped)])
    case .stopped:
        guard state.phase == .stopping else { return (state, []) }
        next.phase = .ready
        return (next, [])
    case .streamFailed(let error):
        guard state.canStop else { return (state, []) }
        next = stopping(next, HearpackText("The stream has ended by a fault. Start again, or choose another bundle."))
        next.detail = error.message
        return (next, [.stopCapture(.error)])
    default: return (state, [])
    }
}

/// What the system does to the stream.
private func reduceSystem(_ state: HearpackState, _ action: HearpackAction) -> (HearpackState, [HearpackEffect]) {
    var next = state
    switch action {
    case .enteredBackground:
        next.inBackground = true
        guard state.canStop else { return (next, []) }
        next.phase = .interrupted
        next.message = HearpackText("Paused: the app is in the background. It goes on when you are back.")
        return (next, [.resetStream(.captureGap), .pauseCapture])
    case .becameActive:
        next.inBackground = false
        guard state.inBackground, state.phase == .interrupted else { return (next, []) }
        return (next, [.rebuildCapture])
    case .interruptionBegan(let reason): return interrupted(state, reason)
    case .interruptionEnded(let mayResume):
        guard state.phase == .interrupted, !state.inBackground else { return (state, []) }
        guard mayResume else {
            next = stopping(next, HearpackText("Stopped by the system. Start again when the other app is done."))
            return (next, [.stopCapture(.interrupted)])
        }
        return (next, [.rebuildCapture])
    case .routeChanged(let route):
        guard state.phase == .running else { return (state, []) }
        return (onRoute(next, route), [.resetStream(.reset), .rebuildCapture])
    case .headsetAnswered(let isHeadset):
        guard let route = state.asksHeadset else { return (state, []) }
        next.headsets[route.outputID] = isHeadset
        next = onRoute(next, route)
        let rebuild: [HearpackEffect] = isHeadset && state.phase == .running ? [.resetStream(.reset), .rebuildCapture] : []
        return (next, [.rememberHeadsets(next.headsets)] + rebuild)
    case .configurationChanged:
        guard state.phase == .running else { return (state, []) }
        return (next, [.resetStream(.reset), .rebuildCapture])
    default:
        guard state.canStop, !state.inBackground else { return (state, []) }
        next.phase = .running
        next.message = HearpackText("The system's audio service was restarted.")
        return (next, [.resetStream(.captureGap), .rebuildCapture])
    }
}

private func interrupted(
    _ state: HearpackState, _ reason: HearpackAction.Interruption
) -> (HearpackState, [HearpackEffect]) {
    var next = state
    guard state.phase == .running || state.phase == .starting else { return (state, []) }
    switch reason {
    case .suspended, .routeDisconnected:
        // The app is back, or another device takes over: nobody will tell of an end.
        return (next, [.resetStream(.captureGap), .rebuildCapture])
    case .other: next.message = HearpackText("Paused: another app or a call has the microphone.")
    case .microphoneMuted: next.message = HearpackText("Paused: the microphone is switched off by the device's cover.")
    }
    next.phase = .interrupted
    // The stream cannot span the hole: what follows begins anew.
    return (next, [.resetStream(.captureGap)])
}

private func stopping(_ state: HearpackState, _ message: HearpackText) -> HearpackState {
    var next = state
    next.phase = .stopping
    next.message = message
    (next.detail, next.notices, next.monitoring, next.asksHeadset) = ("", [], false, nil)
    return next
}

private func onRoute(_ state: HearpackState, _ route: AudioRoute) -> HearpackState {
    var next = state
    next.notices = route.notice.isEmpty ? [] : [route.notice]
    guard state.task == .enhancer else { return next }
    next.monitoring = state.mayMonitor(route)
    next.asksHeadset = route.monitoring == .ask && state.headsets[route.outputID] == nil ? route : nil
    if next.asksHeadset != nil {
        next.notices.append(HearpackText("Enhanced sound is not played before you have said whether this output is a headset."))
    } else if !next.monitoring {
        next.notices.append(
            HearpackText(
                "Enhanced sound is not played: the loudspeaker would be heard by the microphone. Connect a headset "
                    + "to listen."))
    }
    return next
}
