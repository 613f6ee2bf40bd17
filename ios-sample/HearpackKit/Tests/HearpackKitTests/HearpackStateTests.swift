import XCTest

@testable import HearpackKit

final class HearpackStateTests: XCTestCase {
    private let builtIn = AudioRoute(input: .builtIn, output: .builtIn, rateHz: 48_000, modelRateHz: 16_000)
    private let headset = AudioRoute(input: .wired, output: .wired, rateHz: 48_000, modelRateHz: 16_000)
    private let call = AudioRoute(input: .bluetoothHFP, output: .bluetoothHFP, rateHz: 8_000, modelRateHz: 16_000)
    private let loud = AudioRoute(input: .builtIn, output: .bluetoothA2DP, outputID: "car", rateHz: 48_000, modelRateHz: 16_000)

    /// All actions in a row: the last state, and the effects of the last action.
    private func after(
        _ actions: HearpackAction..., from: HearpackState = HearpackState()
    ) -> (state: HearpackState, effects: [HearpackEffect]) {
        actions.reduce((from, [])) { reduce($0.0, $1) }
    }

    private func running(_ task: Manifest.Task = .classifier, on route: AudioRoute? = nil) -> HearpackState {
        after(
            .bundleOpened(name: "toy-4", task: task, modelRateHz: 16_000), .modelLoaded(selfCheckNeeded: false), .warm,
            .startTapped, .permission(granted: true), .captureStarted(route ?? builtIn)
        ).state
    }

    private func words(_ state: HearpackState) -> String { state.notices.map(\.english).joined(separator: " ") }

    func testTheWayToRunning() {
        var (state, effects) = after(.bundleOpened(name: "toy-4", task: .classifier, modelRateHz: 16_000))
        XCTAssertEqual(effects, [.loadModel])
        XCTAssertTrue(state.message.english.hasPrefix("Loading toy-4. "), state.message.english)
        (state, effects) = after(.modelLoaded(selfCheckNeeded: true), from: state)
        XCTAssertEqual(effects, [.warmUp], "before the self-check: the first call of all is then a warm-up call")
        XCTAssertFalse(state.canStart, "loaded is not warm")
        XCTAssertFalse(state.canChoose, "one load at a time")
        (state, effects) = after(.warm, from: state)
        XCTAssertEqual(effects, [.runSelfCheck])
        XCTAssertEqual(after(.warm, from: state).effects, [], "a late answer")
        let check = ParityCheck(metric: "snr_db", value: 120, limit: 110, atLeast: true)
        let passed = SelfCheckReport(sampleRateHz: 16_000, checks: [check], firstDivergence: nil, eventsThatDiffer: 0)
        (state, effects) = after(.selfChecked([passed]), from: state)
        XCTAssertEqual(effects, [])
        XCTAssertTrue(state.canStart)
        XCTAssertTrue(state.canChoose)
        (state, effects) = after(.startTapped, from: state)
        XCTAssertEqual(effects, [.askPermission])
        (state, effects) = after(.permission(granted: true), from: state)
        XCTAssertEqual(effects, [.startCapture])
        (state, effects) = after(.captureStarted(builtIn), from: state)
        XCTAssertEqual(state.phase, .running)
        XCTAssertEqual(state.notices, [])
        (state, effects) = after(.stopTapped, from: state)
        XCTAssertEqual(effects, [.stopCapture(.stopped)])
        XCTAssertFalse(state.canStart, "what was captured is still worked on")
        XCTAssertEqual(after(.startTapped, from: state).effects, [])
        XCTAssertTrue(after(.stopped, from: state).state.canStart)
    }

    func testFailedSelfCheckSaysWhereAndWhatToDo() {
        let check = ParityCheck(metric: "snr_db", value: 40, limit: 110, atLeast: true)
        let report = SelfCheckReport(sampleRateHz: 16_000, checks: [check], firstDivergence: 3, eventsThatDiffer: 0)
        let (state, effects) = after(
            .bundleOpened(name: "toy-4", task: .enhancer, modelRateHz: 16_000), .modelLoaded(selfCheckNeeded: true),
            .warm, .selfChecked([report]))
        XCTAssertEqual(state.phase, .failed)
        XCTAssertEqual(effects, [])
        XCTAssertFalse(state.canStart)
        XCTAssertTrue(state.message.english.contains("--artefact coreml-fp32"), state.message.english)
        XCTAssertEqual(state.selfCheck, ["16000 Hz: FAIL: snr_db 40 (at least 110); first leaves the tolerance at 3"])
    }

    func testPermissionDeniedAndTriedAgain() {
        let ready = after(
            .bundleOpened(name: "toy-4", task: .classifier, modelRateHz: 16_000), .modelLoaded(selfCheckNeeded: false), .warm
        ).state
        let denied = after(.startTapped, .permission(granted: false), from: ready)
        XCTAssertEqual(denied.state.phase, .needsSettings)
        XCTAssertEqual(denied.effects, [], "no capture without permission")
        XCTAssertTrue(denied.state.message.english.contains("Settings > Privacy & Security > Microphone"))
        let again = after(.retryTapped, from: denied.state)
        XCTAssertEqual(again.effects, [.askPermission])
        XCTAssertEqual(after(.permission(granted: true), from: again.state).effects, [.startCapture])
    }

    func testInterruption() {
        let paused = after(.interruptionBegan(.other), from: running())
        XCTAssertEqual(paused.state.phase, .interrupted)
        XCTAssertEqual(paused.effects, [.resetStream(.captureGap)], "a stream cannot span the hole")
        let resumed = after(.interruptionEnded(mayResume: true), from: paused.state)
        XCTAssertEqual(resumed.effects, [.rebuildCapture])
        XCTAssertEqual(after(.captureStarted(builtIn), from: resumed.state).state.phase, .running)
        let over = after(.interruptionEnded(mayResume: false), from: paused.state)
        XCTAssertEqual(over.effects, [.stopCapture(.interrupted)])
        XCTAssertTrue(after(.stopped, from: over.state).state.canStart)
        let covered = after(.interruptionBegan(.microphoneMuted), from: running()).state
        XCTAssertTrue(covered.message.english.contains("cover"), covered.message.english)
    }

    /// A locked phone or another app on the screen: the stream waits, says so, and goes on at the return.
    func testBackgroundAndReturn() {
        let away = after(.enteredBackground, from: running())
        XCTAssertEqual(away.effects, [.resetStream(.captureGap), .pauseCapture])
        XCTAssertEqual(away.state.phase, .interrupted)
        XCTAssertTrue(away.state.message.english.contains("in the background"), away.state.message.english)
        XCTAssertTrue(running().staysAwake)
        XCTAssertFalse(away.state.staysAwake)
        for late in [HearpackAction.interruptionBegan(.suspended), .interruptionEnded(mayResume: true), .captureStarted(builtIn)]
        {
            XCTAssertEqual(after(late, from: away.state).state, away.state, "nothing starts out of sight")
        }
        let back = after(.becameActive, from: away.state)
        XCTAssertEqual(back.effects, [.rebuildCapture])
        let again = after(.captureStarted(builtIn), from: back.state).state
        XCTAssertEqual(again.phase, .running)
        XCTAssertTrue(again.message.isEmpty)
        XCTAssertEqual(after(.becameActive, from: again).effects, [], "a permission dialog makes active, too")
        let idle = after(.enteredBackground, .becameActive, from: after(.stopTapped, .stopped, from: running()).state)
        XCTAssertEqual(idle.effects, [])
        let stopped = after(.enteredBackground, .stopTapped, .stopped, .becameActive, from: running())
        XCTAssertEqual(stopped.effects, [])
        XCTAssertTrue(stopped.state.canStart)
    }

    /// What iOS tells after a suspension that nobody saw coming: no other app has the microphone, and no end will follow.
    func testSuspendedIsNoInterruption() {
        for reason in [HearpackAction.Interruption.suspended, .routeDisconnected] {
            let (state, effects) = after(.interruptionBegan(reason), from: running())
            XCTAssertEqual(state.phase, .running)
            XCTAssertTrue(state.message.isEmpty, state.message.english)
            XCTAssertEqual(effects, [.resetStream(.captureGap), .rebuildCapture])
        }
    }

    /// A call comes while the app is away, or the app goes away during a call.
    func testACallInTheBackground() {
        let calling = after(.interruptionBegan(.other), .enteredBackground, from: running())
        XCTAssertEqual(calling.state.phase, .interrupted)
        XCTAssertEqual(after(.interruptionEnded(mayResume: true), from: calling.state).effects, [])
        XCTAssertEqual(after(.becameActive, from: calling.state).effects, [.rebuildCapture])
    }

    func testRouteToEightKilohertz() {
        let (state, effects) = after(.routeChanged(call), from: running())
        XCTAssertEqual(effects, [.resetStream(.reset), .rebuildCapture])
        XCTAssertTrue(words(state).contains("gives 8 kHz (a Bluetooth headset in call mode)"), words(state))
        XCTAssertTrue(words(state).contains("everything above 4.0 kHz is missing"), words(state))
        XCTAssertEqual(after(.captureStarted(builtIn), from: state).state.notices, [], "gone with the route")
    }

    func testMonitoringOnlyOnAHeadset() {
        let speaker = running(.enhancer)
        XCTAssertFalse(speaker.monitoring)
        XCTAssertTrue(words(speaker).contains("Connect a headset"), words(speaker))
        let (state, effects) = after(.routeChanged(headset), from: speaker)
        XCTAssertTrue(state.monitoring)
        XCTAssertEqual(effects, [.resetStream(.reset), .rebuildCapture], "the graph is built anew, with playout")
        XCTAssertEqual(state.notices, [])
    }

    /// Every port: a headset plays, what may be a loudspeaker or a car asks, all else never plays.
    func testTheHowlGuard() {
        let safe: [DeviceTrace.Port] = [.wired, .hearingAid]
        let unsure: [DeviceTrace.Port] = [.usb, .bluetoothHFP, .bluetoothLE, .bluetoothA2DP]
        for port in [DeviceTrace.Port.builtIn, .file, .other, .none] + safe + unsure {
            let route = AudioRoute(input: .builtIn, output: port, outputID: "x", rateHz: 48_000, modelRateHz: 16_000)
            let state = running(.enhancer, on: route)
            XCTAssertEqual(state.monitoring, safe.contains(port), "\(port)")
            XCTAssertEqual(state.asksHeadset, unsure.contains(port) ? route : nil, "\(port)")
            XCTAssertNil(running(.classifier, on: route).asksHeadset, "nothing is played anyway")
        }
    }

    func testTheQuestionIsAskedOnceADevice() {
        let asked = running(.enhancer, on: loud)
        XCTAssertEqual(asked.asksHeadset, loud)
        XCTAssertTrue(words(asked).contains("before you have said"), words(asked))
        let no = after(.headsetAnswered(false), from: asked)
        XCTAssertEqual(no.effects, [.rememberHeadsets(["car": false])])
        XCTAssertFalse(no.state.monitoring)
        XCTAssertNil(after(.captureStarted(loud), from: no.state).state.asksHeadset)
        let yes = after(.headsetAnswered(true), from: asked)
        XCTAssertEqual(yes.effects, [.rememberHeadsets(["car": true]), .resetStream(.reset), .rebuildCapture])
        XCTAssertTrue(after(.captureStarted(loud), from: yes.state).state.monitoring)
        let other = AudioRoute(input: .builtIn, output: .usb, outputID: "dac", rateHz: 48_000, modelRateHz: 16_000)
        XCTAssertEqual(after(.routeChanged(other), from: yes.state).state.asksHeadset, other)
        let next = after(.bundleOpened(name: "b", task: .enhancer, modelRateHz: 16_000), from: yes.state).state
        XCTAssertEqual(next.headsets, ["car": true], "another bundle, the same headset")
        XCTAssertEqual(after(.headsetAnswered(true), from: running()).effects, [], "nobody asked")
    }

    func testConfigurationChangeAndMediaServicesReset() {
        XCTAssertEqual(after(.configurationChanged, from: running()).effects, [.resetStream(.reset), .rebuildCapture])
        let (state, effects) = after(.mediaServicesReset, from: running())
        XCTAssertEqual(effects, [.resetStream(.captureGap), .rebuildCapture])
        XCTAssertEqual(state.phase, .running)
        XCTAssertEqual(after(.mediaServicesReset).effects, [], "nothing runs, nothing to do")
        XCTAssertEqual(after(.enteredBackground, .mediaServicesReset, from: running()).effects, [])
    }

    func testPackageThatDoesNotCompileAndBrokenBundles() {
        for error in [HearpackError.artefact("x: Core ML cannot compile it"), .bundle("x does not match the manifest")] {
            let (state, effects) = after(
                .bundleOpened(name: "toy-4", task: .classifier, modelRateHz: 16_000), .failed(error))
            XCTAssertEqual(state.phase, .failed)
            XCTAssertEqual(state.detail, error.message)
            XCTAssertEqual(effects, [])
            XCTAssertFalse(state.canStart)
            XCTAssertTrue(state.canChoose)
        }
        XCTAssertTrue(after(.noBundle).state.message.english.contains("hearpack install BUNDLE --ios"))
    }

    func testStreamFailureStopsCapture() {
        let (state, effects) = after(.streamFailed(.audio("sample 3 is nan")), from: running())
        XCTAssertEqual(effects, [.stopCapture(.error)])
        XCTAssertEqual(state.detail, "sample 3 is nan")
        XCTAssertEqual(after(.streamFailed(.audio("late")), from: state).effects, [], "once is enough")
        let after = after(.stopped, from: state).state
        XCTAssertTrue(after.canStart, "the model is as good as before")
        XCTAssertEqual(after.detail, "sample 3 is nan")
    }

    func testLateAnswersChangeNothing() {
        let running = running()
        for action in [
            HearpackAction.modelLoaded(selfCheckNeeded: true), .selfChecked([]), .warm, .startTapped,
            .permission(granted: true), .interruptionEnded(mayResume: true), .stopped,
        ] {
            XCTAssertEqual(after(action, from: running).state, running)
            XCTAssertEqual(after(action, from: running).effects, [])
        }
        let stopped = after(.stopTapped, .stopped, from: running).state
        XCTAssertEqual(after(.captureStarted(builtIn), from: stopped).state.phase, .ready)
        XCTAssertEqual(after(.routeChanged(call), from: stopped).effects, [])
    }

    func testTextsPutArgumentsWhereTheyBelong() {
        let text = HearpackText("%@ of %@", "a %@ %1$@", "b")
        XCTAssertEqual(text.english, "a %@ %1$@ of b", "an argument is no format")
        XCTAssertEqual(text.text("100 %, %2$@: %1$@"), "100 %, b: a %@ %1$@")
        XCTAssertEqual(text.text("%3$@ %"), "%3$@ %")
        XCTAssertTrue(HearpackText.none.isEmpty)
    }

    /// What VoiceOver says of a change: what matters, and once.
    func testAnnouncements() {
        func said(_ actions: HearpackAction..., from state: HearpackState = HearpackState()) -> [String] {
            var (state, said): (HearpackState, [String]) = (state, [])
            for action in actions {
                let next = reduce(state, action).0
                if let text = announcement(from: state, to: next) { said.append(text.english) }
                state = next
            }
            return said
        }
        XCTAssertEqual(
            said(
                .bundleOpened(name: "toy", task: .classifier, modelRateHz: 16_000), .modelLoaded(selfCheckNeeded: true), .warm,
                .selfChecked([SelfCheckReport(sampleRateHz: 1, checks: [], firstDivergence: nil, eventsThatDiffer: 0)])),
            ["Ready"])
        XCTAssertEqual(said(.interruptionBegan(.other), from: running()), ["Paused: another app or a call has the microphone."])
        XCTAssertEqual(said(.enteredBackground, .becameActive, .captureStarted(builtIn), from: running()).last, "Running")
        XCTAssertEqual(said(.stopTapped, .stopped, from: running()), ["Ready"])
        XCTAssertEqual(said(.streamFailed(.audio("x")), .stopped, from: running()).count, 1)
        XCTAssertTrue(said(.routeChanged(loud), from: running(.enhancer))[0].contains("Is this output a headset?"))
        XCTAssertEqual(said(.failed(.bundle("x"))), ["The model cannot be used."])
        XCTAssertEqual(said(.routeChanged(call), from: running()).count, 1, "a notice")
        XCTAssertEqual(said(.routeChanged(builtIn), .configurationChanged, from: running()), [])
    }
}
