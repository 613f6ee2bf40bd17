import XCTest

@testable import HearpackKit

final class AppStateTests: XCTestCase {
    private let builtIn = Route(input: .builtIn, output: .builtIn, rateHz: 48_000, modelRateHz: 16_000)
    private let headset = Route(input: .wired, output: .wired, rateHz: 48_000, modelRateHz: 16_000)
    private let call = Route(input: .bluetoothHFP, output: .bluetoothHFP, rateHz: 8_000, modelRateHz: 16_000)

    /// All actions in a row: the last state, and the effects of the last action.
    private func after(_ actions: AppAction..., from: AppState = AppState()) -> (state: AppState, effects: [AppEffect]) {
        actions.reduce((from, [])) { reduce($0.0, $1) }
    }

    private func running(_ task: Manifest.Task = .classifier) -> AppState {
        after(
            .bundleOpened(name: "toy-4", task: task, modelRateHz: 16_000), .modelLoaded(selfCheckNeeded: false), .warm,
            .startTapped, .permission(granted: true), .captureStarted(builtIn)
        ).state
    }

    func testTheWayToRunning() {
        var (state, effects) = after(.bundleOpened(name: "toy-4", task: .classifier, modelRateHz: 16_000))
        XCTAssertEqual(effects, [.loadModel])
        (state, effects) = after(.modelLoaded(selfCheckNeeded: true), from: state)
        XCTAssertEqual(effects, [.runSelfCheck])
        let check = Check(metric: "snr_db", value: 120, limit: 110, atLeast: true)
        let passed = SelfCheckReport(sampleRateHz: 16_000, checks: [check], firstDivergence: nil, eventsThatDiffer: 0)
        (state, effects) = after(.selfChecked([passed]), from: state)
        XCTAssertEqual(effects, [.warmUp])
        XCTAssertFalse(state.canStart, "loaded is not warm")
        (state, effects) = after(.warm, from: state)
        XCTAssertTrue(state.canStart)
        (state, effects) = after(.startTapped, from: state)
        XCTAssertEqual(effects, [.askPermission])
        (state, effects) = after(.permission(granted: true), from: state)
        XCTAssertEqual(effects, [.startCapture])
        (state, effects) = after(.captureStarted(builtIn), from: state)
        XCTAssertEqual(state.phase, .running)
        XCTAssertEqual(state.notice, "")
        (state, effects) = after(.stopTapped, from: state)
        XCTAssertEqual(effects, [.stopCapture(.stopped)])
        XCTAssertEqual(state.phase, .ready)
    }

    func testFailedSelfCheckSaysWhereAndWhatToDo() {
        let check = Check(metric: "snr_db", value: 40, limit: 110, atLeast: true)
        let report = SelfCheckReport(sampleRateHz: 16_000, checks: [check], firstDivergence: 3, eventsThatDiffer: 0)
        let (state, effects) = after(
            .bundleOpened(name: "toy-4", task: .enhancer, modelRateHz: 16_000), .modelLoaded(selfCheckNeeded: true),
            .selfChecked([report]))
        XCTAssertEqual(state.phase, .failed)
        XCTAssertEqual(effects, [])
        XCTAssertTrue(state.message.contains("--artefact coreml-fp32"), state.message)
        XCTAssertEqual(state.selfCheck, ["16000 Hz: FAIL: snr_db 40 (at least 110); first leaves the tolerance at 3"])
    }

    func testPermissionDeniedAndTriedAgain() {
        let ready = after(
            .bundleOpened(name: "toy-4", task: .classifier, modelRateHz: 16_000), .modelLoaded(selfCheckNeeded: false), .warm
        ).state
        let denied = after(.startTapped, .permission(granted: false), from: ready)
        XCTAssertEqual(denied.state.phase, .needsSettings)
        XCTAssertEqual(denied.effects, [], "no capture without permission")
        XCTAssertTrue(denied.state.message.contains("Settings > Privacy & Security > Microphone"), denied.state.message)
        let again = after(.retryTapped, from: denied.state)
        XCTAssertEqual(again.effects, [.askPermission])
        XCTAssertEqual(after(.permission(granted: true), from: again.state).effects, [.startCapture])
    }

    func testInterruption() {
        let paused = after(.interruptionBegan, from: running())
        XCTAssertEqual(paused.state.phase, .interrupted)
        XCTAssertEqual(paused.effects, [.resetStream(.captureGap)], "a stream cannot span the hole")
        let resumed = after(.interruptionEnded(mayResume: true), from: paused.state)
        XCTAssertEqual(resumed.effects, [.rebuildCapture])
        XCTAssertEqual(after(.captureStarted(builtIn), from: resumed.state).state.phase, .running)
        let over = after(.interruptionEnded(mayResume: false), from: paused.state)
        XCTAssertEqual(over.effects, [.stopCapture(.interrupted)])
        XCTAssertTrue(over.state.canStart)
    }

    func testRouteToEightKilohertz() {
        let (state, effects) = after(.routeChanged(call), from: running())
        XCTAssertEqual(effects, [.resetStream(.reset), .rebuildCapture])
        XCTAssertTrue(state.notice.contains("gives 8 kHz (a Bluetooth headset in call mode)"), state.notice)
        XCTAssertTrue(state.notice.contains("everything above 4.0 kHz is missing"), state.notice)
        XCTAssertEqual(after(.captureStarted(builtIn), from: state).state.notice, "", "gone with the route")
    }

    func testMonitoringOnlyOnAHeadset() {
        let speaker = running(.enhancer)
        XCTAssertFalse(speaker.monitoring)
        XCTAssertTrue(speaker.notice.contains("Connect a headset"), speaker.notice)
        let (state, effects) = after(.routeChanged(headset), from: speaker)
        XCTAssertTrue(state.monitoring)
        XCTAssertEqual(effects, [.resetStream(.reset), .rebuildCapture], "the graph is built anew, with playout")
        XCTAssertEqual(state.notice, "")
    }

    func testConfigurationChangeAndMediaServicesReset() {
        XCTAssertEqual(after(.configurationChanged, from: running()).effects, [.resetStream(.reset), .rebuildCapture])
        let (state, effects) = after(.mediaServicesReset, from: running())
        XCTAssertEqual(effects, [.resetStream(.captureGap), .rebuildCapture])
        XCTAssertEqual(state.phase, .running)
        XCTAssertEqual(after(.mediaServicesReset).effects, [], "nothing runs, nothing to do")
    }

    func testPackageThatDoesNotCompileAndBrokenBundles() {
        for error in [HearpackError.artefact("x: Core ML cannot compile it"), .bundle("x does not match the manifest")] {
            let (state, effects) = after(
                .bundleOpened(name: "toy-4", task: .classifier, modelRateHz: 16_000), .failed(error))
            XCTAssertEqual(state.phase, .failed)
            XCTAssertEqual(state.message, error.message)
            XCTAssertEqual(effects, [])
            XCTAssertFalse(state.canStart)
        }
        XCTAssertTrue(after(.noBundle).state.message.contains("hearpack install BUNDLE --ios"))
    }

    func testStreamFailureStopsCapture() {
        let (state, effects) = after(.streamFailed(.audio("sample 3 is nan")), from: running())
        XCTAssertEqual(effects, [.stopCapture(.error)])
        XCTAssertEqual(state.message, "sample 3 is nan")
        XCTAssertEqual(after(.streamFailed(.audio("late")), from: state).effects, [], "once is enough")
    }

    func testLateAnswersChangeNothing() {
        let running = running()
        for action in [
            AppAction.modelLoaded(selfCheckNeeded: true), .selfChecked([]), .warm, .startTapped, .permission(granted: true),
            .interruptionEnded(mayResume: true),
        ] {
            XCTAssertEqual(after(action, from: running).state, running)
            XCTAssertEqual(after(action, from: running).effects, [])
        }
        let stopped = after(.stopTapped, from: running).state
        XCTAssertEqual(after(.captureStarted(builtIn), from: stopped).state.phase, .ready)
        XCTAssertEqual(after(.routeChanged(call), from: stopped).effects, [])
    }
}
