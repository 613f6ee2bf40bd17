/// What the app is doing, and what a failure says: a pure function of what happened, tested without an app.
///
/// `reduce` is the only place where the state changes; it says what to do next as effects, and the app does them.
public struct AppState: Equatable, Sendable {
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
        case needsSettings
        case failed
    }

    public var phase: Phase = .opening
    public var bundle = ""
    public var task: Manifest.Task?
    /// A line under the title: what is going on, or what went wrong and what to do.
    public var message = ""
    /// What is worth knowing while the stream runs, for instance that the route carries only 8 kHz.
    public var notice = ""
    public var selfCheck: [String] = []
    public var selfCheckPassed: Bool?
    /// Whether the enhanced sound is played; the audio graph is built with or without playout.
    public var monitoring = false

    public init() {}

    /// Whether the start button does something.
    public var canStart: Bool { phase == .ready }
    public var canStop: Bool { phase == .running || phase == .interrupted || phase == .starting }
}

public enum AppAction: Equatable, Sendable {
    case bundleOpened(name: String, task: Manifest.Task, modelRateHz: Int)
    case noBundle
    case failed(HearpackError)
    case modelLoaded(selfCheckNeeded: Bool)
    case selfChecked([SelfCheckReport])
    case warm
    case startTapped
    case permission(granted: Bool)
    case captureStarted(Route)
    case stopTapped
    case interruptionBegan
    case interruptionEnded(mayResume: Bool)
    case routeChanged(Route)
    case configurationChanged
    case mediaServicesReset
    case streamFailed(HearpackError)
    case retryTapped
}

/// What matters of a route to the stream.
public struct Route: Equatable, Sendable {
    public let input: DeviceTrace.Port
    public let output: DeviceTrace.Port
    public let rateHz: Int
    public let modelRateHz: Int

    public init(input: DeviceTrace.Port, output: DeviceTrace.Port, rateHz: Int, modelRateHz: Int) {
        self.input = input
        self.output = output
        self.rateHz = rateHz
        self.modelRateHz = modelRateHz
    }

    /// A loudspeaker beside the microphone howls: only a headset is monitored.
    public var mayMonitor: Bool {
        [.wired, .usb, .bluetoothHFP, .bluetoothLE, .bluetoothA2DP].contains(output)
    }

    /// What the user should know of this route; empty if nothing.
    public var notice: String {
        guard rateHz < modelRateHz else { return "" }
        let khz = rateHz % 1_000 == 0 ? "\(rateHz / 1_000)" : "\(Double(rateHz) / 1_000)"
        let half = "\(Double(rateHz) / 2_000)"
        let cause = input == .bluetoothHFP ? " (a Bluetooth headset in call mode)" : ""
        return "This microphone gives \(khz) kHz\(cause); the model expects \(modelRateHz / 1_000) kHz, so everything above "
            + "\(half) kHz is missing and results are worse. Choose the built-in or a wired microphone."
    }
}

/// What the app has to do next.
public enum AppEffect: Equatable, Sendable {
    case loadModel
    case runSelfCheck
    case warmUp
    case askPermission
    case startCapture
    case stopCapture(DeviceTrace.EndReason)
    /// Stop, make the audio graph anew, start: after a route or configuration change, or a media-services reset.
    case rebuildCapture
    case resetStream(DeviceTrace.GapKind)
}

/// The state after an action, and what to do.
public func reduce(_ state: AppState, _ action: AppAction) -> (AppState, [AppEffect]) {
    var next = state
    switch action {
    case .bundleOpened(let name, let task, _):
        next = AppState()
        next.bundle = name
        next.task = task
        next.phase = .loading
        next.message = "Loading \(name). The first time Core ML compiles it for this device; that may take a while."
        return (next, [.loadModel])
    case .noBundle:
        next.phase = .failed
        next.message = "No bundle is installed in this app. On your computer run: hearpack install BUNDLE --ios ios-sample"
        return (next, [])
    case .failed(let error):
        next.phase = .failed
        next.message = error.message
        return (next, state.canStop ? [.stopCapture(.error)] : [])
    case .modelLoaded(let selfCheckNeeded):
        guard state.phase == .loading else { return (state, []) }
        next.phase = selfCheckNeeded ? .checking : .warmingUp
        next.message = selfCheckNeeded ? "Checking the model on this device against the bundle's golden vectors." : "Warming up."
        return (next, [selfCheckNeeded ? .runSelfCheck : .warmUp])
    case .selfChecked(let reports):
        guard state.phase == .checking else { return (state, []) }
        next.selfCheck = reports.map(\.summary)
        next.selfCheckPassed = !reports.isEmpty && reports.allSatisfy(\.passed)
        guard next.selfCheckPassed == true else {
            next.phase = .failed
            next.message =
                "The self-check failed: this device does not compute what the model was exported to compute. "
                + "Try an fp32 artefact (hearpack install --artefact coreml-fp32), and send us the lines below."
            return (next, [])
        }
        next.phase = .warmingUp
        next.message = "Warming up."
        return (next, [.warmUp])
    case .warm:
        guard state.phase == .warmingUp else { return (state, []) }
        next.phase = .ready
        next.message = ""
        return (next, [])
    case .startTapped, .retryTapped:
        guard state.phase == .ready || state.phase == .needsSettings else { return (state, []) }
        next.phase = .starting
        next.message = ""
        next.notice = ""
        return (next, [.askPermission])
    case .permission(let granted):
        guard state.phase == .starting else { return (state, []) }
        if granted { return (next, [.startCapture]) }
        next.phase = .needsSettings
        next.message =
            "This app may not use the microphone. Allow it in Settings > Privacy & Security > Microphone, then try again. "
            + "If the switch cannot be moved there, a restriction or your organisation forbids it."
        return (next, [])
    case .captureStarted(let route):
        guard state.phase == .starting || state.phase == .interrupted || state.phase == .running else {
            return (state, [])
        }
        next.phase = .running
        next.message = ""
        return (onRoute(next, route), [])
    case .stopTapped:
        guard state.canStop else { return (state, []) }
        next.phase = .ready
        next.message = ""
        next.notice = ""
        next.monitoring = false
        return (next, [.stopCapture(.stopped)])
    case .interruptionBegan:
        guard state.phase == .running || state.phase == .starting else { return (state, []) }
        next.phase = .interrupted
        next.message = "Paused: another app or a call has the microphone."
        // The stream cannot span the hole: what follows begins anew.
        return (next, [.resetStream(.captureGap)])
    case .interruptionEnded(let mayResume):
        guard state.phase == .interrupted else { return (state, []) }
        guard mayResume else {
            next.phase = .ready
            next.message = "Stopped by the system. Start again when the other app is done."
            return (next, [.stopCapture(.interrupted)])
        }
        return (next, [.rebuildCapture])
    case .routeChanged(let route):
        guard state.phase == .running else { return (state, []) }
        return (onRoute(next, route), [.resetStream(.reset), .rebuildCapture])
    case .configurationChanged:
        guard state.phase == .running else { return (state, []) }
        return (next, [.resetStream(.reset), .rebuildCapture])
    case .mediaServicesReset:
        guard state.canStop else { return (state, []) }
        next.phase = .running
        next.message = "The system's audio service was restarted."
        return (next, [.resetStream(.captureGap), .rebuildCapture])
    case .streamFailed(let error):
        guard state.canStop else { return (state, []) }
        next.phase = .failed
        next.message = error.message
        return (next, [.stopCapture(.error)])
    }
}

private func onRoute(_ state: AppState, _ route: Route) -> AppState {
    var next = state
    next.notice = route.notice
    guard state.task == .enhancer else { return next }
    next.monitoring = route.mayMonitor
    if !route.mayMonitor {
        let reason =
            "Enhanced sound is not played: the loudspeaker would be heard by the microphone. Connect a headset to listen."
        next.notice = next.notice.isEmpty ? reason : next.notice + " " + reason
    }
    return next
}
