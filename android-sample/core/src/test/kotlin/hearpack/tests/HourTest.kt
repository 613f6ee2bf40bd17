package hearpack.tests

import hearpack.core.bundle.Bundle
import org.json.JSONArray
import kotlin.math.abs
import kotlin.math.exp
import kotlin.math.ln
import kotlin.random.Random
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertTrue

/** An hour in the slow tests; a minute and a half shows as much of each profile but what comes rarely. */
private val SECONDS = System.getProperty("seconds")?.toDouble() ?: 90.0
private const val BUFFER_MS = 8.0
private const val MOST_GROWTH_BYTES = 4L shl 20

/** DTLN's sizes. */
private fun enhancer(): Bundle = Bundle.open(fakeFiles(manifestText(window = 512, hop = 128, delay = 384)), Given.API)

/** An hour, or less, of each of the simulator's profiles with playout, through the session that ships. */
class HourTest {
    private val profiles: List<Pair<String, PhoneType>> =
        JSONArray(Given.file("profiles.json").readText()).let { list ->
            List(list.length()) {
                val p = list.getJSONObject(it)
                val block = p.getJSONArray("block_frames")
                val lumps = block.getInt(0)..block.getInt(1)
                val jitterNs = (p.getDouble("jitter_us") * 1000).toLong()
                val type = PhoneType(p.getInt("rate_hz"), lumps, lumps.last, jitterNs, p.getInt("output_rate_hz"))
                p.getString("name") to type
            }
        }

    /** How late what is played is, ms, by the second: least and most; nothing but losses moves it. */
    private class Delays(
        type: PhoneType,
        stalls: List<Stall> = emptyList(),
    ) {
        val least = DoubleArray(SECONDS.toInt() + 1) { Double.MAX_VALUE }
        val most = DoubleArray(SECONDS.toInt() + 1) { -Double.MAX_VALUE }
        private var early = 0L
        private val quarter = (SECONDS / 4 * 1e9).toLong()
        val phone: FakePhone = FakePhone(enhancer(), type, stalls) { look(it, type) }

        /** What the heap holds more at the end than after a quarter of the time. */
        val grownBytes: Long

        init {
            phone.run(SECONDS)
            assertEquals(null, phone.listener.failure)
            assertTrue(early > 0)
            grownBytes = heldBytes() - early
        }

        private fun heldBytes(): Long {
            System.gc()
            return Runtime.getRuntime().let { it.totalMemory() - it.freeMemory() }
        }

        private fun look(
            now: Long,
            type: PhoneType,
        ) {
            if (early == 0L && now >= quarter) early = heldBytes()
            val counts = phone.session.playout?.counts() ?: return
            val heard = counts.consumed.toDouble() / type.outRateHz + phone.lost.toDouble() / type.rateHz
            val ms = now / 1e6 - heard * 1e3
            val second = (now / SECOND).toInt()
            least[second] = minOf(least[second], ms)
            most[second] = maxOf(most[second], ms)
        }

        fun usual(second: Int) = (least[second] + most[second]) / 2
    }

    private fun drifts(ppm: Int) {
        for ((name, type) in profiles) {
            val run = Delays(type.copy(outPpm = ppm))
            val counts =
                run.phone.session.playout!!
                    .counts()!!
            assertEquals(listOf(0L, 0L, 0L), listOf(counts.underruns, counts.trimmed, counts.dropped), "$name $ppm")
            accounted(run.phone, name)
            assertTrue(run.grownBytes < MOST_GROWTH_BYTES, "$name: ${run.grownBytes} bytes more than at the quarter")
            val usual = run.usual(2)
            for (s in 2 until SECONDS.toInt()) {
                val off = maxOf(abs(run.least[s] - usual), abs(run.most[s] - usual))
                assertTrue(off <= 10.0, "$name $ppm ppm: $off ms from the usual delay at $s s")
            }
        }
    }

    private fun accounted(
        phone: FakePhone,
        name: String,
    ) {
        val segment = phone.session.capture.segment!!
        val seen = segment.arrival.kept - segment.ring.available
        assertEquals(phone.captured, seen + segment.ring.available + phone.lost, name)
        val counts = phone.session.playout!!.counts()!!
        assertEquals(counts.offered, counts.written + counts.dropped, name)
        assertEquals(counts.written, counts.consumed + counts.held, name)
        assertEquals(0, phone.listener.figures!!.captureGaps, "$name: no audio was missing")
        assertTrue(phone.wakeUps <= 150 * SECONDS, "$name: ${phone.wakeUps / SECONDS} wake-ups a second")
    }

    @Test fun clocksThatAgree() = drifts(0)

    @Test fun theSpeakerIs500PpmFast() = drifts(500)

    @Test fun theSpeakerIs500PpmSlow() = drifts(-500)

    private fun stalls(
        ofCapture: Boolean,
        seed: Int,
    ): List<Stall> {
        val random = Random(seed)
        val stalls = mutableListOf<Stall>()
        var at = 8.0
        while (at < SECONDS - 14) {
            val length = exp(random.nextDouble(ln(0.05), ln(5.0)))
            stalls += Stall((at * 1e9).toLong(), (length * 1e9).toLong(), ofCapture)
            at += length + 6 + random.nextDouble(0.0, 8.0)
        }
        return stalls
    }

    private fun recovers(ofCapture: Boolean) {
        val stalls = stalls(ofCapture, 1)
        for ((name, type) in profiles) {
            val run = Delays(type, stalls)
            accounted(run.phone, name)
            val usual = run.usual(6)
            for ((i, stall) in stalls.withIndex()) {
                val from = (stall.endNs / SECOND).toInt() + 6
                val until = ((stalls.getOrNull(i + 1)?.atNs ?: (SECONDS.toLong() * SECOND)) / SECOND).toInt()
                // Playing may begin anywhere in the rhythm of the lumps, where they are longer than a buffer.
                val most = maxOf(BUFFER_MS, 1e3 * type.lumps.last / type.rateHz) + 0.1
                for (s in from until until) {
                    val off = maxOf(run.most[s] - usual, usual - run.least[s])
                    assertTrue(off <= most, "$name: $off ms from the usual at $s s, after $stall")
                }
            }
        }
    }

    @Test fun theDelayIsBackAfterEveryStallOfInference() = recovers(false)

    @Test fun theDelayIsBackAfterEveryStallOfCapture() = recovers(true)
}
