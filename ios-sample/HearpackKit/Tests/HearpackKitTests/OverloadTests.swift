import Foundation
import XCTest

@testable import HearpackKit

/// The app's policy when inference is behind, in the real worker and on the real thread: the oldest of what waits is dropped.
final class OverloadTests: XCTestCase {
    private let clock = FakeClock()

    /// Samples that say where they stand: exact in float32, inside of the input's bound.
    private func numbered(_ range: Range<Int>) -> [Float] { range.map { Float($0) / 4_194_304 } }

    private func position(_ value: Float) -> Int { Int(value * 4_194_304) }

    /// An engine that is given what it computes by a closure, and keeps the position of every sample that it saw.
    private final class Slow: InferenceEngine, @unchecked Sendable {
        let signature: GraphSignature
        let info = EngineInfo(runtime: "fake", version: "1", detail: "")
        var seen: [Float] = []
        var during: () -> Void = {}

        init(_ manifest: Manifest) { signature = GraphSignature(manifest) }

        func step(
            _ block: UnsafeBufferPointer<Float>, _ state: StreamState, into outputs: inout [[Float]],
            next: inout StreamState
        ) {
            during()
            seen += block
        }
    }

    private func stream(_ ring: Int) throws -> (StreamWorker, CaptureFeed, Slow, TraceRecorder) {
        let bundle = try bundle(try manifestText())
        let feed = CaptureFeed(ringSamples: ring, clock: clock)
        feed.rateHz = 16_000
        let engine = Slow(bundle.manifest)
        let recorder = TraceRecorder(exactRows: 100_000)
        return (try StreamWorker(bundle, engine, feed: feed, recorder: recorder, clock: clock), feed, engine, recorder)
    }

    /// What was seen is all of it in order, but for what the trace says was dropped.
    private func account(_ engine: Slow, _ delivered: Int, _ lost: Int, _ waiting: Int, line: UInt = #line) {
        let places = engine.seen.map(position)
        let skipped = zip(places, places.dropFirst()).map { $1 - $0 - 1 }
        XCTAssertTrue(skipped.allSatisfy { $0 >= 0 }, "in order, nothing twice", line: line)
        XCTAssertEqual(skipped.reduce(places.first ?? 0, +), lost, line: line)
        XCTAssertEqual(places.count + lost + waiting, delivered, "every sample is accounted for", line: line)
    }

    /// Each call lasts while two hops come: half of all must go, and the wait stays bounded.
    func testAnEngineSlowerThanTheHop() throws {
        let (worker, feed, engine, recorder) = try stream(1 << 17)
        let limit = StreamWorker.waitingLimit(worker.manifest)
        XCTAssertEqual(limit, 4 + 8_000)
        var delivered = 0
        var most = 0
        engine.during = {
            guard delivered < 200_000 else { return }
            feed.deliver(self.numbered(delivered..<delivered + 8), 8)
            delivered += 8
            most = max(most, feed.ring.available)
        }
        feed.deliver(numbered(0..<4), 4)
        delivered = 4
        try worker.pump()
        XCTAssertEqual(delivered, 200_004)
        XCTAssertLessThanOrEqual(most, limit + 2 * 1_024, "a piece taken at a time, twice as much comes meanwhile")
        let lost = worker.figures().lostSamples
        XCTAssertGreaterThan(lost, 80_000)
        account(engine, delivered, lost, feed.ring.available + delivered % 4)
        let trace = try finish(recorder, worker)
        XCTAssertEqual(trace.gaps.map(\.samples).reduce(0, +), lost)
        XCTAssertEqual(Set(trace.gaps.map(\.policy)), ["drop_oldest"])
    }

    /// The thread hangs in a call while three seconds come: the newest half second is kept.
    func testTheThreadIsHeldUpOnce() throws {
        let (worker, feed, engine, recorder) = try stream(1 << 17)
        let (began, go) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        engine.during = {
            began.signal()
            go.wait()
            engine.during = {}
        }
        let ended = expectation(description: "the newest sample was seen")
        ended.assertForOverFulfill = false
        let limit = StreamWorker.waitingLimit(worker.manifest)
        let wanted = 4 + limit
        let thread = InferenceThread(
            worker, figuresEvery: 0,
            onFigures: { if 4 * $0.calls == wanted { ended.fulfill() } }, onFailure: { XCTFail($0.message) })
        feed.deliver(numbered(0..<4), 4)
        began.wait()
        for at in stride(from: 4, to: 48_004, by: 160) { feed.deliver(numbered(at..<at + 160), 160) }
        go.signal()
        wait(for: [ended], timeout: 30)
        thread.stop()
        engine.seen.removeLast(engine.seen.count - wanted)  // the silence of the flush
        XCTAssertEqual(engine.seen.map(position), Array(0..<4) + Array(48_164 - 160 - limit..<48_004))
        account(engine, 48_004, 48_000 - limit, 0)
        let gaps = try finish(recorder, worker).gaps
        XCTAssertEqual(gaps.map(\.samples), [48_000 - limit])
        XCTAssertEqual(gaps.map(\.kind), [.ringOverrun])
    }

    /// The ring itself is full: the newest is refused, and counted as well.
    func testAFullRingRefuses() throws {
        let (worker, feed, engine, _) = try stream(1 << 14)
        for at in stride(from: 0, to: 32_000, by: 160) { feed.deliver(numbered(at..<at + 160), 160) }
        try worker.pump()
        let lost = worker.figures().lostSamples
        XCTAssertEqual(feed.ring.lostSamples, 32_000 - 16_384)
        XCTAssertEqual(lost, 32_000 - StreamWorker.waitingLimit(worker.manifest))
        account(engine, 32_000 - feed.ring.lostSamples, lost - feed.ring.lostSamples, 0)
    }

    private func finish(_ recorder: TraceRecorder, _ worker: StreamWorker) throws -> DeviceTrace {
        try makeTrace(recorder, worker.manifest, clock)
    }
}
