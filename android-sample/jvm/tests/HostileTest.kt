package hearpack.tests

import hearpack.core.bundle.Bundle
import hearpack.core.bundle.BundleException
import hearpack.core.bundle.EngineException
import hearpack.core.bundle.FolderFiles
import hearpack.core.stream.SelfCheck
import org.json.JSONArray
import org.json.JSONObject
import java.io.File
import java.util.concurrent.CompletableFuture
import java.util.concurrent.TimeUnit
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertFalse
import kotlin.test.assertNotNull
import kotlin.test.assertNull
import kotlin.test.assertTrue

/** Bundles that somebody spoiled (tests/fixtures/hostile_bundles.py), through all that the app does at its start. */
class HostileTest {
    private val root = Given.file("hostile")
    private val cases =
        JSONArray(File(root, "cases.json").readText()).let { list ->
            List(list.length()) { list.getJSONObject(it) }
        }

    /** Opens it, loads the model, runs the self-check; why it was refused, null if all is well. */
    private fun start(folder: File): String? {
        val attempt =
            CompletableFuture.supplyAsync {
                try {
                    val bundle = Bundle.open(FolderFiles(folder), Given.API)
                    val report = openEngine(bundle, folder).use { SelfCheck(bundle, it).run() }
                    if (report.passed) null else "the self-check failed: ${report.metric} ${report.figure}"
                } catch (e: BundleException) {
                    e.message
                } catch (e: EngineException) {
                    e.message
                }
            }
        // A pipe that is waited for would never end.
        return attempt.get(60, TimeUnit.SECONDS)
    }

    private fun folder(case: JSONObject) = File(root, case.getString("bundle"))

    @Test fun theGoodBundlePasses() {
        val good = File(root, "good").listFiles()!!.single()
        assertNull(start(good))
        assertEquals(5, Bundle.open(FolderFiles(good), Given.API).labels.size)
    }

    @Test fun everyHostileBundleIsRefusedInOneHarmlessLine() {
        assertTrue(cases.size >= 40, "${cases.size} cases")
        for (case in cases.filter { it.getBoolean("apps") }) {
            val why = assertNotNull(start(folder(case)), "${case.getString("name")} was taken for good")
            assertTrue(why.length <= 300 && why.none { it.isISOControl() }, why)
            assertFalse("a private key" in why, why)
        }
    }

    @Test fun whatNoAppReadsEndsInNoOtherWay() {
        for (case in cases.filter { !it.getBoolean("apps") }) start(folder(case))
    }
}
