import XCTest

@testable import HearpackKit

final class WorkerTests: XCTestCase {
    private let clock = FakeClock()

    private func recorder() -> TraceRecorder { TraceRecorder(exactRows: 100) }

    private func finish(_ recorder: TraceRecorder, _ bundle: ModelBundle) throws -> DeviceTrace {
        try makeTrace(recorder, bundle.manifest, clock)
    }

    func testEnhancerPlaysWithGainAndLimiter() throws {
        let bundle = try bundle(
            try manifestText {
                $0["dsp"] = [["kind": "gain", "gain_db": 12.0], ["kind": "limiter", "ceiling_dbfs": 0.0, "release_ms": 1.0]]
            })
        let feed = CaptureFeed(ringSamples: 64, clock: clock)
        feed.rateHz = 16_000
        let playout = try PlayoutRing(
            capacitySamples: 64, prefillSamples: 4, deadbandSamples: 0, toleranceSamples: 4, rateHz: 16_000)
        let recorder = recorder()
        let worker = try StreamWorker(
            bundle, FakeEngine(echo: bundle.manifest), feed: feed, playout: playout, playoutRateHz: 16_000,
            recorder: recorder, clock: clock)
        feed.deliver([0.125, 0.125, 0.125, 0.125, 0.5, 0, 0, 0], 8)
        XCTAssertEqual(try worker.pump(), 8)
        XCTAssertEqual(try worker.pump(), 0, "nothing more is due")
        var out = [Float](repeating: -1, count: 10)
        out.withUnsafeMutableBufferPointer { playout.read($0, clock.nowNs()) }
        let k = Float(onGrid(pow(10, 0.6), 20))
        XCTAssertEqual(out[0], 0.125 * k)
        XCTAssertEqual(out[4], 1, "0.5 times 4 is limited to full scale")
        XCTAssertEqual(out[8], 0, "an underrun is silence")
        let figures = worker.figures()
        XCTAssertEqual(figures.calls, 2)
        XCTAssertEqual(figures.level.peak, 0.5 * k)
        XCTAssertEqual(figures.playout?.underrun, 2)
        let trace = try finish(recorder, bundle)
        XCTAssertEqual(trace.callbacks.map(\.frames), [8])
        XCTAssertEqual(trace.inferences.map(\.endSample), [4, 8])
        XCTAssertEqual(trace.end.inferences, 2)
        XCTAssertEqual(trace.coldStart.firstCallbackNs, trace.callbacks[0].timeNs)
        XCTAssertGreaterThanOrEqual(
            try XCTUnwrap(trace.coldStart.firstDecisionNs), trace.inferences[1].endNs, "after the delay of 6")
    }

    func testOverrunIsCountedAndFailureRecorded() throws {
        let bundle = try bundle(try manifestText())
        let feed = CaptureFeed(ringSamples: 4, clock: clock)
        feed.rateHz = 16_000
        let engine = FakeEngine(echo: bundle.manifest)
        let recorder = recorder()
        let worker = try StreamWorker(bundle, engine, feed: feed, recorder: recorder, clock: clock)
        feed.deliver([1, 2, 3, 4, 5, 6], 6)
        try worker.pump()
        engine.failAtCall = 1
        feed.deliver([1, 2, 3, 4], 4)
        assertThrows("the engine failed") { try worker.pump() }
        try worker.reset(.captureGap)
        engine.failAtCall = nil
        feed.deliver([1, 2, 3, 4], 4)
        try worker.pump()
        let trace = try finish(recorder, bundle)
        XCTAssertEqual(trace.gaps.map(\.kind), [.ringOverrun, .captureGap])
        XCTAssertEqual(trace.gaps[0].samples, 2)
        XCTAssertEqual(trace.inferences.map(\.error), [nil, "toy: the engine failed", nil])
        XCTAssertEqual(trace.inferences.last?.endSample, 4, "the stream began anew")
    }

    func testWhatNoNetMayBeGivenAndWhatNoNetMayGive() throws {
        let bundle = try bundle(try manifestText())
        let feed = CaptureFeed(ringSamples: 64, clock: clock)
        feed.rateHz = 16_000
        let engine = FakeEngine(bundle.manifest) { block, state in
            let h = block[0] == 2 ? Float.nan : state.tensors[0][0]
            return (block.map { $0 + h }, [h, 0])
        }
        let recorder = recorder()
        let worker = try StreamWorker(bundle, engine, feed: feed, recorder: recorder, clock: clock)
        var heard: [Float] = []
        worker.onAudio = { heard.append(contentsOf: $0) }
        feed.deliver([.nan, 1, -15_136, 1e25, 2, 1, 1, 1, 0.5, 0.5, 0.5, 0.5], 12)
        try worker.pump()
        XCTAssertEqual(heard, [0, 1, -4, 4, 0, 0, 0, 0, 0.5, 0.5, 0.5, 0.5], "the third call begins from the reset state")
        let figures = worker.figures()
        XCTAssertEqual([figures.nanSamples, figures.limitedSamples, figures.nanOutputs], [1, 2, 1])
        try worker.reset()
        XCTAssertEqual(worker.figures().nanOutputs, 1, "a reset of the stream forgets no count")
        let trace = try finish(recorder, bundle)
        XCTAssertEqual(trace.gaps.map(\.kind), [.reset, .reset])
        XCTAssertEqual(trace.gaps[0].samples, 4)
    }

    func testClassifierHears() throws {
        let bundle = try bundle(
            try manifestText { fields in
                fields["task"] = "classifier"
                fields["outputs"] = [["name": "scores", "shape": [1, 2], "dtype": "float32", "range": [0, 1], "meaning": ""]]
                fields["decisions"] = [
                    "window_hop_samples": 4, "smoothing_windows": 1, "on_threshold": 0.5, "off_threshold": 0.3,
                    "min_on_ms": 0.0, "min_off_ms": 0.0,
                ]
            })
        let feed = CaptureFeed(ringSamples: 64, clock: clock)
        feed.rateHz = 16_000
        let engine = FakeEngine(bundle.manifest) { block, _ in ([block[0], 0.1], [0, 0]) }
        let recorder = recorder()
        let worker = try StreamWorker(bundle, engine, feed: feed, recorder: recorder, clock: clock)
        var heard: [SoundEvent] = []
        worker.onEvent = { heard.append($0) }
        feed.deliver([0.75, 0, 0, 0, 0.75, 0, 0, 0, 0.1, 0, 0, 0], 12)
        try worker.pump()
        XCTAssertEqual(heard.map(\.offsetSample), [nil, 4])
        XCTAssertEqual(worker.figures().top.map(\.label), ["dog", "cat"])
        try worker.finish()
        let trace = try finish(recorder, bundle)
        XCTAssertEqual(trace.events?.map(\.onsetSample), [0])
        XCTAssertEqual(trace.bundle.windowHopSamples, 4)
        let again = try readTrace(try trace.json())
        XCTAssertEqual(again, trace)
    }

    /// Each value of a manifest by turns replaced by one that nobody expects: refused, or a stream that works. What
    /// overflows or lies out of bounds would end the process.
    func testAnyValueOfAManifestIsRefusedOrWorks() throws {
        let odd: [Any] = [
            0, 1, -1, 0.5, 1 << 18, Int32.max, Int.max, Int.min, 1e15, 1e300, "", "x", "..", "\0", true, NSNull(),
            [Any](), [String: Any](), [[1]],
        ]
        let enhancer = try manifestText {
            $0["playout"] = ["prefill_samples": 4]
            $0["dsp"] = [["kind": "gain", "gain_db": 1], ["kind": "wet_dry", "attenuation_limit_db": 3]]
        }
        let classifier = try manifestText {
            $0["files"] = [fileEntry("labels.txt", "dog\ncat\n")]
            $0["task"] = "classifier"
            $0["geometry"] = ["sample_rate_hz": 4_000, "channels": 1, "window_samples": 4, "hop_samples": 2, "delay_samples": 0]
            $0["buffer"] = ["kind": "window", "hops_per_call": 1, "samples": 4]
            $0["outputs"] = [["name": "scores", "shape": [1, 2], "dtype": "float32", "range": [0, 1], "meaning": ""]]
            $0["decisions"] = ["window_hop_samples": 2, "min_on_ms": 1.5, "per_label": ["dog": ["on_threshold": 0.5]]]
        }
        let folder = try bundle(enhancer).folder
        var (refused, taken) = (0, 0)
        for text in [enhancer, classifier] {
            let whole = try JSONSerialization.jsonObject(with: text)
            for place in places(whole, []) {
                for value in odd {
                    let changed = put(whole, place[...], value)
                    guard JSONSerialization.isValidJSONObject(changed) else { continue }
                    try JSONSerialization.data(withJSONObject: changed).write(to: folder.appendingPathComponent("manifest.json"))
                    if try works(folder) { taken += 1 } else { refused += 1 }
                }
            }
        }
        XCTAssertGreaterThan(refused, 500)
        XCTAssertGreaterThan(taken, 50)
    }

    private func works(_ folder: URL) throws -> Bool {
        do {
            let bundle = try ModelBundle(opening: folder)
            let feed = CaptureFeed(ringSamples: 4_096, clock: clock)
            feed.rateHz = 48_000
            let engine = FakeEngine(bundle.manifest) { _, state in ([], state.tensors.first ?? []) }
            _ = PlayoutRing.prefill(bundle.manifest, deviceRateHz: 48_000, deviceBlock: 480)
            let worker = try StreamWorker(bundle, engine, feed: feed, playoutRateHz: 48_000, clock: clock)
            feed.deliver([Float](repeating: 0, count: 4_096), 4_096)
            try worker.pump()
            return true
        } catch is HearpackError {
            return false
        }
    }

    private func places(_ value: Any, _ place: [String]) -> [[String]] {
        var found: [[String]] = place.isEmpty ? [] : [place]
        if let fields = value as? [String: Any] {
            for (key, inner) in fields { found += places(inner, place + [key]) }
        } else if let list = value as? [Any] {
            for (index, inner) in list.enumerated() { found += places(inner, place + [String(index)]) }
        }
        return found
    }

    private func put(_ root: Any, _ place: ArraySlice<String>, _ value: Any) -> Any {
        guard let part = place.first else { return value }
        if var fields = root as? [String: Any] {
            fields[part] = put(fields[part] ?? NSNull(), place.dropFirst(), value)
            return fields
        }
        guard var list = root as? [Any], let index = Int(part) else { return root }
        list[index] = put(list[index], place.dropFirst(), value)
        return list
    }

    func testTracesOfTheSharedFixture() throws {
        let text = try fixture("device_trace/ios.json")
        let trace = try readTrace(text)
        XCTAssertEqual(try object(try trace.json()), try object(text))
        XCTAssertEqual(trace.routes[1].input, .bluetoothHFP)
        XCTAssertEqual(trace.inferences[1].error, "E5RT failed")
        assertThrows("no trace yet") { _ = try finish(TraceRecorder(), try bundle(try manifestText())) }
    }

    func testRatesTheResamplerDoesNotTake() throws {
        let bundle = try bundle(try manifestText())
        let feed = CaptureFeed(ringSamples: 64, clock: clock)
        feed.rateHz = 2_000
        assertThrows("the microphone gives 2000 Hz, this app takes 4000 to 192000") {
            _ = try StreamWorker(bundle, FakeEngine(echo: bundle.manifest), feed: feed, clock: clock)
        }
        feed.rateHz = 8_000
        XCTAssertNoThrow(try StreamWorker(bundle, FakeEngine(echo: bundle.manifest), feed: feed, clock: clock))
    }

    func testThreadPumpsRunsJobsAndStops() throws {
        let bundle = try bundle(try manifestText())
        let feed = CaptureFeed(ringSamples: 4_096, clock: clock)
        feed.rateHz = 16_000
        let engine = FakeEngine(echo: bundle.manifest)
        engine.failAtCall = 100
        let worker = try StreamWorker(bundle, engine, feed: feed, clock: clock)
        let saw = expectation(description: "figures of all samples")
        saw.assertForOverFulfill = false
        let failed = expectation(description: "failure")
        let ran = expectation(description: "job")
        let thread = InferenceThread(
            worker, figuresEvery: 0.01, onFigures: { if $0.calls == 100 { saw.fulfill() } },
            onFailure: { error in
                XCTAssertTrue(error.message.contains("the engine failed"), error.message)
                failed.fulfill()
            })
        for _ in 0..<100 { feed.deliver([1, 2, 3, 4], 4) }
        wait(for: [saw], timeout: 20)
        thread.run {
            XCTAssertEqual($0.modelSamples, 400); ran.fulfill()
        }
        wait(for: [ran], timeout: 20)
        feed.deliver([1, 2, 3, 4], 4)
        wait(for: [failed], timeout: 20)
        thread.stop()
        thread.stop()
    }
}
