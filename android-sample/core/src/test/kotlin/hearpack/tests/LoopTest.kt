package hearpack.tests

import hearpack.core.bundle.Decisions
import hearpack.core.bundle.EngineException
import hearpack.core.bundle.LabelDecisions
import hearpack.core.bundle.StreamException
import hearpack.core.stream.DecisionTracker
import hearpack.core.stream.Pipeline
import hearpack.core.stream.SoundEvent
import hearpack.core.stream.StreamLoop
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue

class LoopTest {
    private fun run(
        loop: StreamLoop,
        samples: FloatArray,
        sizes: List<Int>,
    ) {
        var at = 0
        for (n in sizes) {
            loop.push(samples, at, n)
            at += n
        }
        loop.flush()
    }

    private val ramp = FloatArray(103) { it + 1f }

    @Test fun stepNetsOutputIsTheInputDelayedForEveryPartition() {
        val bundle = fakeEnhancer()
        for (seed in 0..20) {
            val out = mutableListOf<Float>()
            val ends = mutableListOf<Long>()
            val loop =
                StreamLoop(FakeEngine(bundle), bundle.manifest, { end, values, count ->
                    out += values.take(count)
                    ends += end
                })
            run(loop, ramp, partition(ramp.size, if (seed == 0) 1 else null, seed))
            assertEquals(List(4) { 0f } + ramp.toList(), out)
            assertEquals(107, ends.last())
            assertEquals(103, loop.inSamples)
        }
    }

    @Test fun windowsOverlapAndTheTailIsPaddedOnce() {
        val bundle = fakeClassifier()
        val rows = mutableListOf<Triple<Long, Float, Float>>()
        val loop = StreamLoop(FakeEngine(bundle), bundle.manifest, { end, v, _ -> rows += Triple(end, v[0], v[1]) })
        run(loop, ramp.copyOf(13), listOf(5, 0, 8))
        assertEquals(listOf(Triple(8L, 1f, 8f), Triple(12L, 5f, 12f), Triple(16L, 9f, 0f)), rows)
    }

    @Test fun nothingIsPaddedWhenEverySampleWasCovered() {
        val bundle = fakeClassifier()
        val ends = mutableListOf<Long>()
        run(StreamLoop(FakeEngine(bundle), bundle.manifest, { end, _, _ -> ends += end }), ramp.copyOf(12), listOf(12))
        assertEquals(listOf(8L, 12L), ends)
    }

    @Test fun aHopLongerThanTheWindowSkips() {
        val bundle = fakeClassifier(window = 4, hop = 10)
        val rows = mutableListOf<Pair<Long, Float>>()
        val loop = StreamLoop(FakeEngine(bundle), bundle.manifest, { end, v, _ -> rows += end to v[0] })
        run(loop, ramp.copyOf(25), listOf(7, 7, 11))
        assertEquals(listOf(4L to 1f, 14L to 11f, 24L to 21f), rows.take(3))
    }

    @Test fun aFailedCallEndsTheStreamUntilReset() {
        val bundle = fakeEnhancer()
        val engine = FakeEngine(bundle).apply { failAt = 2 }
        val out = mutableListOf<Float>()
        val loop = StreamLoop(engine, bundle.manifest, { _, values, count -> out += values.take(count) })
        assertFailsWith<EngineException> { loop.push(ramp, 0, 20) }
        assertFailsWith<StreamException> { loop.push(ramp, 0, 1) }
        engine.failAt = -1
        loop.reset()
        out.clear()
        run(loop, ramp.copyOf(8), listOf(8))
        assertEquals(List(4) { 0f } + ramp.take(8), out)
    }

    @Test fun whatIsNoNumberIsRefusedAndNothingIsTakenIn() {
        val bundle = fakeEnhancer()
        val loop = StreamLoop(FakeEngine(bundle), bundle.manifest, { _, _, _ -> })
        loop.push(ramp, 0, 3)
        assertFailsWith<StreamException> { loop.push(floatArrayOf(1f, Float.POSITIVE_INFINITY), 0, 2) }
        assertEquals(3, loop.inSamples)
    }

    @Test fun theManifestsDspIsAppliedAroundTheNet() {
        val dsp = ""","dsp":[{"kind":"gain","gain_db":-6},{"kind":"limiter","ceiling_dbfs":-12,"release_ms":50}]"""
        val bundle = fakeEnhancer(dsp)
        val out = mutableListOf<Float>()
        val pipeline =
            Pipeline(bundle, FakeEngine(bundle), 16000, 64, { _, values, count -> out += values.take(count) }, {})
        pipeline.push(FloatArray(40) { 0.9f }, 0, 40)
        assertTrue(pipeline.meter.peak in 0.44f..0.46f) // 0.9 less 6 dB
        pipeline.flush()
        assertTrue(out.max() <= 0.2512f && out.max() > 0.25f, "${out.max()}")
    }

    @Test fun aGateSparesTheNetSilentWindows() {
        val bundle = fakeClassifier(more = ""","dsp":[{"kind":"gate","threshold_dbfs":-40.0}]""")
        val engine = FakeEngine(bundle)
        val events = mutableListOf<SoundEvent>()
        val pipeline = Pipeline(bundle, engine, 16000, 64, { _, _, _ -> }, events::add)
        pipeline.push(FloatArray(64), 0, 64)
        assertEquals(0, engine.calls)
        pipeline.push(FloatArray(64) { 0.9f }, 0, 64)
        assertTrue(engine.calls > 10)
        assertEquals(listOf("cat", "dog"), events.map { it.label }.sorted())
    }

    private fun decide(
        decisions: Decisions,
        scores: List<Float>,
    ): List<SoundEvent> {
        val events = mutableListOf<SoundEvent>()
        val tracker = DecisionTracker(decisions, listOf("a", "b"), 1000, events::add)
        scores.forEachIndexed { i, s -> tracker.push(floatArrayOf(s, 0f), 10L * (i + 1)) }
        tracker.flush(10L * scores.size)
        return events
    }

    private val plain = Decisions(10, 1, 0.5, 0.3, 0.0, 0.0, emptyMap())

    @Test fun hysteresisKeepsALabelOnBetweenTheThresholds() {
        val events = decide(plain, listOf(0.1f, 0.6f, 0.4f, 0.35f, 0.2f, 0.4f))
        assertEquals(listOf(10L to null, 10L to 30L), events.map { it.onsetSample to it.offsetSample })
    }

    @Test fun minimumDurationsDebounce() {
        val slow = plain.copy(minOnMs = 20.0, minOffMs = 30.0)
        assertEquals(emptyList(), decide(slow, listOf(0.6f, 0.1f, 0.6f, 0.1f)))
        val events = decide(slow, listOf(0.6f, 0.6f, 0.1f, 0.1f, 0.6f, 0.1f, 0.1f, 0.1f))
        assertEquals(listOf(0L to null, 0L to 40L), events.map { it.onsetSample to it.offsetSample })
    }

    @Test fun smoothingIsAMeanAndNaNEndsARun() {
        val smooth = plain.copy(smoothingWindows = 2)
        assertEquals(
            0.7f.toDouble() / 2 + 0.5f.toDouble() / 2,
            decide(smooth, listOf(0.5f, 0.7f)).last().confidence,
            1e-12,
        )
        val needsTwo = plain.copy(minOnMs = 20.0)
        assertEquals(emptyList(), decide(needsTwo, listOf(0.6f, Float.NaN, 0.6f)))
    }

    @Test fun aLabelsOwnRuleCounts() {
        val own = plain.copy(perLabel = mapOf("a" to LabelDecisions(0.9, null, null, null)))
        assertEquals(emptyList(), decide(own, listOf(0.8f, 0.8f)))
    }
}
