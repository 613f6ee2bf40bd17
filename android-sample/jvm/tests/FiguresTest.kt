package hearpack.tests

import hearpack.core.trace.Arrival
import hearpack.core.trace.ComputeMeter
import hearpack.core.trace.GapDetector
import hearpack.core.trace.Known
import hearpack.core.trace.LatencyLedger
import hearpack.core.trace.LatencyName
import hearpack.core.trace.SortedWindow
import hearpack.core.trace.TraceRecorder
import kotlin.random.Random
import kotlin.test.Test
import kotlin.test.assertEquals

class FiguresTest {
    @Test fun percentilesAreThoseOfTheLastValues() {
        val window = SortedWindow(64)
        assertEquals(0, window.percentile(50))
        val random = Random(3)
        val all = List(1000) { random.nextLong(0, 50) }
        all.forEachIndexed { i, value ->
            window.add(value)
            val last = all.subList(maxOf(0, i - 63), i + 1).sorted()
            assertEquals(last[minOf(last.size - 1, last.size * 95 / 100)], window.percentile(95))
        }
        assertEquals(64, window.count)
    }

    @Test fun callsThatTakeLongerThanTheirHopAreMisses() {
        val clock = FakeClock()
        val meter = ComputeMeter(clock, 128, 16000, TraceRecorder())
        for (ms in listOf(1L, 2L, 9L, 3L, 8L)) {
            meter.begin(0)
            clock.now += ms * 1_000_000
            meter.end()
        }
        assertEquals(5, meter.calls)
        assertEquals(1, meter.misses)
        assertEquals(3_000_000, meter.p50Nanos)
    }

    @Test fun theWaitIsThatFromTheReadThatCompletedTheBufferToTheCall() {
        val clock = FakeClock()
        val meter = ComputeMeter(clock, 128, 16000, TraceRecorder())
        val arrival = Arrival(48000).also { meter.arrival = it }
        arrival.came(10_000_000, 480) // the 384 samples of the first buffer, and 2 ms more
        clock.now = 11_000_000
        meter.begin(128)
        meter.end()
        // What came with the buffer's last samples did not wait for the call: that is the block's part.
        assertEquals(1_000_000, meter.waitP50Nanos)
    }

    @Test fun latencyIsTheSumOfItsNamedParts() {
        val dtln = Given.bundle("dtln").manifest
        val ledger = LatencyLedger.of(dtln, 48000, 192, 3_000_000, 1_000_000, 900_000, 960, 480)
        val expected =
            listOf(
                Triple(LatencyName.CAPTURE_BLOCK, 4.0, Known.EXACT),
                Triple(LatencyName.INPUT_ROUTE, 3.0, Known.MEASURED),
                Triple(LatencyName.RESAMPLER, 1.5, Known.EXACT),
                Triple(LatencyName.FRAMING, 8.0, Known.EXACT),
                Triple(LatencyName.MODEL_DELAY, 24.0, Known.EXACT),
                Triple(LatencyName.RING_WAIT, 1.0, Known.MEASURED),
                Triple(LatencyName.COMPUTE, 0.9, Known.MEASURED),
                Triple(LatencyName.OUTPUT_RESAMPLER, 1.5, Known.EXACT),
                Triple(LatencyName.PLAYOUT_PREFILL, 20.0, Known.MEASURED),
                Triple(LatencyName.OUTPUT_ROUTE, 10.0, Known.STATED),
            )
        assertEquals(expected.map { it.first to it.third }, ledger.parts.map { it.name to it.known })
        ledger.parts.forEachIndexed { i, part -> assertEquals(expected[i].second, part.ms, 1e-9, part.name.name) }
        assertEquals(73.9, ledger.totalMs, 1e-9)
        val yamnet = LatencyLedger.of(Given.bundle("yamnet").manifest, 16000, 160, 0, 0, 2_000_000, null, 0)
        assertEquals(
            listOf(
                LatencyName.CAPTURE_BLOCK,
                LatencyName.RESAMPLER,
                LatencyName.FRAMING,
                LatencyName.COMPUTE,
            ),
            yamnet.parts.map {
                it.name
            },
        )
        assertEquals(492.0, yamnet.totalMs, 1e-9)
    }

    private fun gaps(arrivals: List<Pair<Long, Int>>): List<Int> {
        val detector = GapDetector(48000, 960)
        return arrivals.map { (ms, frames) -> detector.read(ms * 1_000_000, frames) }.filter { it > 0 }
    }

    @Test fun jitterIsNoGap() = assertEquals(emptyList(), gaps(List(200) { it * 10L + (it * 7 % 13) to 480 }))

    @Test fun aLateBurstIsNoGap() {
        val burst = List(50) { it * 10L to 480 } + List(20) { 700L to 480 } + List(50) { 710L + it * 10 to 480 }
        assertEquals(emptyList(), gaps(burst))
    }

    @Test fun droppedAudioIsNoticedOnceAndItsLengthIsKnown() {
        val arrivals = List(100) { it * 10L to 480 } + List(100) { 1100L + it * 10 to 480 }
        assertEquals(listOf(4800), gaps(arrivals))
    }
}
