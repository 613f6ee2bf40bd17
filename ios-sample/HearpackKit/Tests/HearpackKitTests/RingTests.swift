import Foundation
import XCTest

@testable import HearpackKit

final class RingTests: XCTestCase {
    func testWrapsAndRefusesWhatDoesNotFit() {
        let ring = RingBuffer(atLeast: 5)
        XCTAssertEqual(ring.capacity, 8)
        var out = [Float](repeating: -1, count: 8)
        XCTAssertEqual(ring.write([1, 2, 3, 4, 5, 6], 6), 6)
        XCTAssertEqual(ring.read(&out, 4), 4)
        XCTAssertEqual(ring.write([7, 8, 9, 10, 11, 12, 13, 14], 8), 6, "two are still inside")
        XCTAssertEqual(ring.lostSamples, 2)
        XCTAssertEqual(ring.available, 8)
        XCTAssertEqual(ring.read(&out, 100 - 92), 8)
        XCTAssertEqual(out, [5, 6, 7, 8, 9, 10, 11, 12])
        XCTAssertEqual(ring.read(&out, 8), 0)
        XCTAssertEqual(ring.writtenSamples, 12)
    }

    func testDiscardsTheOldest() {
        let ring = RingBuffer(atLeast: 8)
        var out = [Float](repeating: 0, count: 8)
        ring.write([1, 2, 3, 4, 5], 5)
        XCTAssertEqual(ring.discard(3), 3)
        XCTAssertEqual(ring.read(&out, 8), 2)
        XCTAssertEqual(Array(out[..<2]), [4, 5])
        XCTAssertEqual(ring.discard(9), 0)
    }

    func testTwoThreadsLoseNothing() {
        let ring = RingBuffer(atLeast: 256)
        let wanted = 200_000
        let producer = Thread {
            var next = 0
            while next < wanted {
                let count = min(1 + next % 37, wanted - next, ring.capacity - ring.available)
                if count == 0 { sched_yield() }
                let block = (0..<count).map { Float(next + $0) }
                ring.write(block, count)
                next += count
            }
        }
        producer.start()
        var seen = 0
        var wrong = 0
        var out = [Float](repeating: 0, count: 64)
        while seen < wanted {
            let count = ring.read(&out, 64)
            if count == 0 { sched_yield() }
            for i in 0..<count where out[i] != Float(seen + i) { wrong += 1 }
            seen += count
        }
        XCTAssertEqual(wrong, 0)
        XCTAssertEqual(ring.lostSamples, 0)
    }

    func testFeedKeepsRecordsInOrderAndDropsWhatDoesNotFit() throws {
        let feed = CaptureFeed(ringSamples: 8, recordCapacity: 2, clock: FakeClock())
        feed.rateHz = 48_000
        feed.deliver([1, 2, 3], 3, hardwareTimeNs: 5, hardwareFrame: 9)
        feed.deliver([4, 5], 2)
        feed.deliver([6], 1)
        let first = try XCTUnwrap(feed.nextRecord())
        XCTAssertEqual(first.frames, 3)
        XCTAssertEqual(first.hardwareTimeNs, 5)
        XCTAssertEqual(first.rateHz, 48_000)
        XCTAssertGreaterThan(first.endNs, first.timeNs)
        XCTAssertEqual(feed.nextRecord()?.hardwareFrame, -1)
        XCTAssertNil(feed.nextRecord(), "only two records fitted")
        XCTAssertEqual(feed.ring.available, 6, "the samples of all three did")
    }
}
