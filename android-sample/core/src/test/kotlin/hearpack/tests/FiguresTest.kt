package hearpack.tests

import hearpack.core.trace.Arrival
import hearpack.core.trace.ArrivalMeter
import hearpack.core.trace.ComputeMeter
import hearpack.core.trace.GapDetector
import hearpack.core.trace.GapKind
import hearpack.core.trace.Known
import hearpack.core.trace.LatencyLedger
import hearpack.core.trace.LatencyName
import hearpack.core.trace.Part
import hearpack.core.trace.SortedWindow
import hearpack.core.trace.TraceRecorder
import kotlin.random.Random
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertNull
import kotlin.test.assertTrue

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
        val ledger =
            LatencyLedger.of(
                dtln,
                48000,
                Part.measured(4_000_000),
                Part.measured(3_000_000, 5_000_000),
                Part.measured(1_000_000, 2_000_000),
                Part.measured(900_000, 1_500_000),
                Part.measured(20_000_000),
                Part.stated(10_000_000),
            )
        val expected =
            listOf(
                Triple(LatencyName.CAPTURE_BLOCK, 4.0, Known.MEASURED),
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
        assertEquals(73.9 + 2 + 1 + 0.6, ledger.totalHighMs, 1e-9)
        val yamnet =
            Part.stated(0).let { none ->
                val block = Part.stated(10_000_000)
                val compute = Part.measured(2_000_000)
                LatencyLedger.of(Given.bundle("yamnet").manifest, 16000, block, none, none, compute, null, null)
            }
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

    @Test fun clocksThatDriftApartAreNoGap() {
        for (ppm in listOf(-200, -50, 50, 100, 200)) {
            for (frames in listOf(96, 192, 1922, 4800)) {
                val detector = GapDetector(48000, maxOf(4 * frames, 2400))
                val reads = 3600L * 48000 / frames
                val found =
                    (1..reads).sumOf {
                        detector.read(
                            (it * frames * 1e9 / (48000 * (1 + ppm * 1e-6))).toLong(),
                            frames,
                        )
                    }
                assertEquals(0, found, "$ppm ppm, blocks of $frames")
            }
        }
    }

    @Test fun whatComesAtOnceAndHowUnevenly() {
        val meter = ArrivalMeter(48000)
        // Ten milliseconds at a time, read in five blocks; every other one 2 ms late.
        for (lump in 0 until 100) {
            val time = lump * 10_000_000L + lump % 2 * 2_000_000L
            for (block in 0 until 5) meter.came(time + block * 10_000, 96)
        }
        assertEquals(480, meter.lumpFrames)
        assertEquals(1_407_052, meter.jitterNanos, "root mean square of 0 and 2 ms; the last lump is not over")
    }

    @Test fun aTraceNeverEndsAndEverySampleIsInIt() {
        val trace = TraceRecorder(100)
        val total = 1_000_000L
        for (i in 0 until total) {
            val rate = if (i < 400_000) 48000 else 16000
            trace.callback(i * 4_000_000, i * 4_000_000 + 1000, 192, rate, i * 4_000_000 - 1, i * 192)
        }
        var frames = 0L
        var count = 0L
        var rows = 0
        var last = -1L
        trace.callbacks.each {
            assertTrue(it[0] > last, "in order of time")
            last = it[6]
            frames += it[2]
            count += it[7]
            rows++
            assertTrue(it[7] == 1L || it[3] in listOf(48000L, 16000L))
        }
        assertEquals(total to total * 192, count to frames)
        assertTrue(rows in 200..4_400, "$rows rows")
        assertEquals((total - 1) * 4_000_000, last)
        assertNull(trace.truncatedNs)
        repeat(2001) { trace.captureGap(it + 5L, GapKind.CAPTURE_GAP, 1, 48000) }
        assertEquals(2005L, trace.truncatedNs)
    }

    @Test fun droppedAudioIsNoticedOnceAndItsLengthIsKnown() {
        val arrivals = List(100) { it * 10L to 480 } + List(100) { 1100L + it * 10 to 480 }
        // The baseline may have followed a drift by a frame.
        assertTrue(gaps(arrivals).single() in 4799..4800)
    }
}
