package hearpack.tests

import hearpack.core.bundle.Bundle
import hearpack.core.bundle.BundleException
import hearpack.core.bundle.BundleFault
import hearpack.core.bundle.ComputeUnit
import hearpack.core.bundle.EngineException
import hearpack.core.bundle.FolderFiles
import hearpack.core.bundle.WeightCache
import hearpack.core.stream.EngineFactory
import hearpack.core.stream.InferenceEngine
import hearpack.core.stream.SelfCheck
import hearpack.core.stream.openBest
import hearpack.core.trace.TraceRecorder
import java.io.File
import kotlin.test.Test
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertFalse
import kotlin.test.assertNotNull
import kotlin.test.assertTrue

/** The app's own LiteRT adapter with real models, and what is done when a unit or a model fails. */
class EngineTest {
    /** A copy of an exported bundle that a test may damage. */
    private fun copyOf(
        name: String,
        edit: (String) -> String,
    ): File {
        val folder = Given.scratch("engine-$name")
        Given.bundleFolder(name).copyRecursively(folder)
        val manifest = File(folder, "manifest.json")
        val text = manifest.readText()
        manifest.writeText(edit(text).also { assertTrue(it != text, "the edit changed nothing") })
        return folder
    }

    @Test fun aModelThatTheAcceleratorRefusesRunsOnTheProcessorAndTheReasonIsKept() {
        val bundle = fakeEnhancer()
        val opened = mutableListOf<FakeEngine>()
        val factory =
            EngineFactory { b, unit ->
                val engine = FakeEngine(b).also { opened += it }
                if (unit == ComputeUnit.GPU) engine.failAt = 1
                engine
            }
        val best = openBest(bundle, factory, FakeClock(), TraceRecorder())
        assertEquals(listOf(ComputeUnit.GPU to "the fake fails at call 1"), best.refused)
        assertEquals(listOf(true, false), opened.map { it.closed })
        assertEquals(opened[1], best.engine)
    }

    @Test fun liteRtItselfRefusesTheGpuHereAndTheProcessorTakesTheModel() {
        val folder = copyOf("dtln") { it.replaceFirst("\"cpu\"", "\"cpu\", \"gpu\"") }
        val bundle = Bundle.open(FolderFiles(folder), Given.API)
        val trace = TraceRecorder()
        val best = openBest(bundle, { b, unit -> openEngine(b, folder, unit) }, System::nanoTime, trace)
        assertEquals(listOf(ComputeUnit.GPU), best.refused.map { it.first })
        assertTrue("GPU" in best.refused.single().second, best.refused.toString())
        assertEquals(ComputeUnit.CPU, best.engine.info.used)
        assertNotNull(trace.coldStart.firstCallEndNs)
        best.engine.close()
    }

    @Test fun aModelThatNoUnitTakesIsAnErrorThatNamesTheReasons() {
        val factory = EngineFactory { _, unit -> throw EngineException("no $unit here") }
        val e = assertFailsWith<EngineException> { openBest(fakeEnhancer(), factory, FakeClock(), TraceRecorder()) }
        assertTrue("no GPU here" in e.message!! && "no CPU here" in e.message!!, e.message)
    }

    @Test fun aManifestWithoutOneOfTheModelsStatesIsRefusedByName() {
        val cell = Regex("\\{\\s*\"dtype\": \"float32\",\\s*\"in\": \"cell\"[^}]*\\}")
        val folder = copyOf("dtln") { it.replace(Regex(",\\s*" + cell.pattern), "") }
        val bundle = Bundle.open(FolderFiles(folder), Given.API)
        assertEquals(3, bundle.manifest.states.size)
        val factory = EngineFactory { b, unit -> openEngine(b, folder, unit) }
        val e = assertFailsWith<EngineException> { openBest(bundle, factory, FakeClock(), TraceRecorder()) }
        assertTrue("cell" in e.message!!, e.message)
    }

    @Test fun aStateThatTheModelDoesNotHaveIsRefusedByName() {
        val folder = copyOf("dtln") { it.replace("\"in\": \"cell\"", "\"in\": \"soul\"") }
        val bundle = Bundle.open(FolderFiles(folder), Given.API)
        val e = assertFailsWith<EngineException> { openEngine(bundle, folder) }
        assertTrue("soul" in e.message!!, e.message)
    }

    @Test fun aFileThatIsNoModelIsRefused() {
        val folder = Given.scratch("no-model")
        File(folder, "litert").mkdirs()
        File(folder, "litert/fake.tflite").writeBytes(MODEL)
        File(folder, "manifest.json").writeText(manifestText())
        val bundle = Bundle.open(FolderFiles(folder), Given.API)
        val e = assertFailsWith<EngineException> { openEngine(bundle, folder) }
        assertTrue("LiteRT cannot load litert/fake.tflite on CPU" in e.message!!, e.message)
    }

    @Test fun bothBundlesPassTheirSelfCheckAtBothRates() {
        for (name in listOf("dtln", "yamnet")) {
            val bundle = Given.bundle(name)
            val shares = mutableListOf<Double>()
            val result = openEngine(bundle, Given.bundleFolder(name)).use { SelfCheck(bundle, it).run(shares::add) }
            println("    $name: $result")
            assertTrue(result.passed, "$name: $result")
            assertEquals(2, result.streams)
            assertEquals(1.0, shares.last())
            assertTrue(shares.zipWithNext().all { (a, b) -> a <= b })
        }
    }

    @Test fun aSelfCheckNamesTheFirstFrameThatDiffers() {
        val folder = Given.scratch("golden")
        Given.bundleFolder("dtln").copyRecursively(folder)
        val golden = File(folder, "golden/enhanced.f32")
        val bytes = golden.readBytes()
        val at = 4 * (3 * 16000 + 800) // 3.05 s: frame 30
        for (i in at until at + 4 * 1600) bytes[i] = if (i % 4 == 3) 0x3f else 0 // 0.5 and the like
        golden.writeBytes(bytes)
        val changed = Bundle.open(FolderFiles(folder), Given.API)
        val e = assertFailsWith<BundleException> { openEngine(changed, folder).use { SelfCheck(changed, it).run() } }
        assertEquals(BundleFault.DAMAGED, e.fault)
        rehash(folder)
        val bundle = Bundle.open(FolderFiles(folder), Given.API)
        val result = openEngine(bundle, folder).use { SelfCheck(bundle, it).run() }
        assertFalse(result.passed)
        assertEquals(30, result.firstBadFrame)
        assertEquals(3.0, result.firstBadSecond!!, 1e-9)
    }

    @Test fun aWeightCacheIsBuiltOnceAndADamagedOneIsThrownAway() {
        val folder = Given.scratch("cache")
        val bundle = Given.bundle("dtln")
        val cache = WeightCache(folder, "test")
        val key =
            cache.key(
                bundle.artefact.files
                    .first()
                    .sha256,
                "2.3.0",
                1,
            )

        fun open(): Pair<Boolean, FloatArray> {
            val (warm, engine) = cache.open(key) { openEngine(bundle, Given.bundleFolder("dtln"), weightCache = it) }
            val samples = Given.floats("bundles/dtln/golden/input.f32").copyOf(8000)
            return engine.use { warm to Streamed(bundle, it, 16000, samples, listOf(8000)).flat }
        }
        val (cold, first) = open()
        assertFalse(cold)
        val file = File(folder, "$key-test.xnn")
        assertTrue(file.length() > 1_000_000, "XNNPACK wrote ${file.length()} bytes")
        val (warm, second) = open()
        assertTrue(warm)
        assertContentEquals(first, second)
        val bytes = file.readBytes().also { it[it.size / 2] = (it[it.size / 2] + 1).toByte() }
        file.delete()
        file.writeBytes(bytes)
        val (sound, third) = open()
        assertFalse(sound)
        assertContentEquals(first, third)
        assertTrue(open().first)
    }

    @Test fun aSelfCheckSeesWhatIsNotFinite() {
        val bundle = Given.bundle("dtln")
        openEngine(bundle, Given.bundleFolder("dtln")).use { real ->
            var calls = 0
            val spoilt =
                object : InferenceEngine by real {
                    override fun run(
                        audio: FloatArray,
                        output: FloatArray,
                        from: Int,
                        to: Int,
                    ) {
                        real.run(audio, output, from, to)
                        if (++calls == 20) output[3] = Float.NaN
                    }
                }
            val report = SelfCheck(bundle, spoilt).run()
            assertFalse(report.passed)
            assertTrue(report.nonFinite > 0)
        }
    }
}
