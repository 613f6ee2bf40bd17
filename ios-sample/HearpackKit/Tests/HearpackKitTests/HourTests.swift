import Foundation
import XCTest

@testable import HearpackKit

/// An hour in a phone's day on the real thread, in virtual time: lumps, clocks that are off, routes that change, calls.
final class HourTests: XCTestCase {
    /// Gives its block back and keeps nothing.
    private final class Echo: InferenceEngine {
        let signature: GraphSignature
        let info = EngineInfo(runtime: "echo", version: "1", detail: "")
        init(_ manifest: Manifest) { signature = GraphSignature(manifest) }
        func step(
            _ block: UnsafeBufferPointer<Float>, _ state: StreamState, into outputs: inout [[Float]],
            next: inout StreamState
        ) {
            for i in block.indices { outputs[0][i] = block[i] }
        }
    }

    private struct Route {
        let rateHz: Int
        let block: Int
        let lump: Int
        let ppm: Double
    }

    /// Resident memory in megabytes, where the system says it in a file.
    private var memoryMB: Int? {
        let text = try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)
        return text?.split(separator: " ").dropFirst().first.flatMap { Int($0) }.map { $0 * 4_096 >> 20 }
    }

    func testAnHourOfAPhonesDay() throws {
        let routes = [
            Route(rateHz: 48_000, block: 256, lump: 256, ppm: 200), Route(rateHz: 48_000, block: 96, lump: 96, ppm: -200),
            Route(rateHz: 44_100, block: 192, lump: 960, ppm: 200), Route(rateHz: 24_000, block: 480, lump: 480, ppm: -50),
            Route(rateHz: 8_000, block: 160, lump: 160, ppm: 200), Route(rateHz: 48_000, block: 1_922, lump: 1_922, ppm: -200),
            Route(rateHz: 48_000, block: 4_800, lump: 4_800, ppm: 200), Route(rateHz: 16_000, block: 256, lump: 512, ppm: -200),
            Route(rateHz: 48_000, block: 1_024, lump: 1_024, ppm: 50), Route(rateHz: 48_000, block: 240, lump: 240, ppm: 0),
        ]
        let bundle = try bundle(try stepText(ms: 8))
        let clock = SetClock()
        let recorder = TraceRecorder(exactRows: 2_000)
        let recording = ABRecording(bundle.manifest)
        var (delivered, calls, memory): (Int, Int, [Int]) = (0, 0, [])
        for (index, route) in routes.enumerated() {
            let phone = FakePhone(
                rateHz: route.rateHz, block: route.block, lump: route.lump, seconds: 360, ppm: route.ppm, clock: clock)
            let call = clock.ns + 200_000_000_000
            phone.silent = call..<call + 30_000_000_000
            let worker = try StreamWorker(
                bundle, Echo(bundle.manifest), feed: phone.feed, recording: recording, recorder: recorder, clock: clock)
            let last = Locked(StreamFigures())
            let failed = Locked<HearpackError?>(nil)
            let thread = InferenceThread(
                worker, sleeper: phone, onFigures: { last.value = $0 }, onFailure: { failed.value = $0 })
            phone.onSilence = { thread.run { try $0.reset(.captureGap) } }
            phone.over.wait()
            thread.stop()
            XCTAssertNil(failed.value)
            let figures = last.value
            XCTAssertEqual(figures.captureGaps, 0, "route \(index): nothing was lost but what the call had")
            XCTAssertEqual(figures.lostSamples, 0)
            XCTAssertEqual(phone.feed.ring.writtenSamples, phone.delivered)
            XCTAssertEqual(phone.feed.ring.readSamples, phone.delivered, "all of it was worked on")
            let rate = Double(route.rateHz) * (1 + route.ppm * 1e-6)
            // To the next lump, and to the end of the last sleep.
            let slack = Double(2 * route.lump) + rate / 20
            XCTAssertEqual(Double(phone.delivered + phone.elsewhere), 360 * rate, accuracy: slack)
            XCTAssertEqual(Double(phone.elsewhere), 30 * rate, accuracy: slack)
            let most = phone.wakeUps.values.max() ?? 0
            XCTAssertLessThanOrEqual(most, 150, "route \(index)")
            XCTAssertLessThanOrEqual(figures.lumpFrames, max(route.lump, route.block))
            delivered += phone.delivered
            calls += figures.calls
            memory += memoryMB.map { [$0] } ?? []
        }
        let trace = try makeTrace(recorder, bundle.manifest, clock)
        XCTAssertEqual(trace.callbacks.map(\.frames).reduce(0, +), delivered)
        XCTAssertGreaterThan(trace.end.inferences, 400_000)
        XCTAssertEqual(trace.inferences.map { $0.count ?? 1 }.reduce(0, +), trace.end.inferences)
        XCTAssertLessThan(trace.callbacks.count + trace.inferences.count, 2 * (2_000 + 4_096 + 1))
        XCTAssertNil(trace.end.truncatedAtNs)
        XCTAssertEqual(recording.count, 30 * 16_000)
        if let early = memory.dropFirst(2).first, let late = memory.last { XCTAssertLessThan(late - early, 20, "MB: \(memory)") }
    }
}
